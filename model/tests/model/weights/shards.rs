//! Weights of which each rank keeps a part, as one process sees them.

use demask_api::Purpose;
use demask_model::weights::parameters::Parameters;
use demask_model::weights::shards::{RankOf, ShardMap};
use demask_model::weights::slot::Slot;
use tch::{Device, Kind, Tensor};

use crate::common::numbers;

/// Two parameters of one group, brought together in the one process that there is.
fn gathered() -> Parameters {
    let own = RankOf { rank: 0, size: 1 };
    let slots = vec![Slot::new("first", &[4]), Slot::new("second", &[2, 3])];
    let map = ShardMap::of_groups(&[10], own);
    let map = (map, Purpose::Train);
    let parameters = Parameters::build_part(slots, Device::Cpu, Kind::Float, map, |_, into| {
        let _ = into.fill_(2.0);
        Ok(())
    })
    .unwrap();
    let leaves = parameters.sharded().unwrap();
    leaves.make_room(0, parameters.master()).unwrap();
    leaves.arrived(0);
    parameters
}

#[test]
fn the_gradients_of_a_twin_are_its_own() {
    let parameters = gathered();
    let twin = parameters.twin().unwrap();
    assert_eq!(numbers(twin.leaf("second").unwrap()), [2.0; 6]);
    twin.leaf("first").unwrap().sum(Kind::Float).backward();
    let taken = |parameters: &Parameters| {
        // What is left in a buffer that is used again is nobody's gradient.
        let spare = Tensor::full([10], 7.0, (Kind::Float, Device::Cpu));
        let taken = parameters.sharded().unwrap().take_gradients(0, Some(spare));
        numbers(&taken.unwrap().flat)
    };
    assert_eq!(taken(&parameters), [0.0; 10]);
    assert_eq!(taken(&twin), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(taken(&twin), [0.0; 10]);
    parameters.sharded().unwrap().let_go(0).unwrap();
    assert!(twin.leaf("first").is_err(), "the twin reads the same memory");
}
