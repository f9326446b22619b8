//! The store in which ranks meet, those who never come, and what ranks tell one another: orders and verdicts.

use std::path::Path;
use std::time::Duration;

use demask_model::ModelError;
use demask_model::world::{Fabric, Membership, ProcessGroup, Rendezvous, Store, World};
use tch::Device;

use crate::calls::{LONG, SHORT, join, membership};
use crate::processes::{Meeting, PLACE, start};

/// Runs the part of this rank in a scene.
pub fn play(scene: &str) {
    match scene {
        "never comes" => never_comes(),
        "orders" => orders(&join(LONG)),
        "verdicts" => verdicts(&join(LONG)),
        other => panic!("no scene {other}"),
    }
}

fn never_comes() {
    let error = World::join_within(membership(), Device::Cpu, SHORT, LONG).unwrap_err();
    assert!(
        error.to_string().contains("not all of 2 ranks joined within 1 s"),
        "{error}"
    );
}

#[test]
fn l10_a_rank_that_never_comes_is_waited_for_until_the_limit() {
    let place = tempfile::tempdir().unwrap();
    start("never comes", (1, 2), place.path(), Meeting::File).succeed();
}

fn orders(world: &World) {
    let long = vec![7u8; 3_000_000];
    let texts: [&[u8]; 3] = [b"one", b"", &long];
    for text in texts {
        if world.rank() == 0 {
            world.order(text).unwrap();
        } else {
            assert!(world.await_order().unwrap() == text);
        }
    }
}

#[test]
fn orders_come_whole_and_in_their_order() {
    let place = tempfile::tempdir().unwrap();
    start("orders", (3, 3), place.path(), Meeting::File).succeed();
}

fn verdicts(world: &World) {
    let agreed = world.agree(Ok(world.rank())).unwrap();
    assert_eq!(agreed, world.rank());
    for failing in [vec![2], vec![1, 2], vec![0, 1, 2]] {
        let own = if failing.contains(&world.rank()) {
            Err(ModelError::Refused(format!("no room at {}", world.rank())))
        } else {
            Ok(())
        };
        let first = failing[0];
        let words = world.agree(own).unwrap_err().to_string();
        assert_eq!(words, format!("rank {first}: no room at {first}"));
    }
    world.agree(Ok(())).unwrap();
}

#[test]
fn what_one_rank_cannot_do_none_does_and_all_say_why() {
    let place = tempfile::tempdir().unwrap();
    start("verdicts", (3, 3), place.path(), Meeting::File).succeed();
}

/// The store of a world of one rank.
fn store_of_one(place: &Path) -> Store {
    let member = Membership {
        rank: 0,
        size: 1,
        local_rank: 0,
        local_size: None,
        generation: 0,
        rendezvous: Rendezvous::File(place.join("store")),
    };
    Store::open(&member, SHORT).unwrap()
}

#[test]
fn a_wait_for_a_key_ends_at_its_limit_and_the_store_keeps_its_values() {
    let place = tempfile::tempdir().unwrap();
    let store = store_of_one(place.path());
    assert!(!store.wait("never", Duration::from_millis(50)).unwrap());
    store.set("now", "").unwrap();
    assert!(store.wait("now", SHORT).unwrap());
    assert_eq!(store.get("now").unwrap(), "");
    store.set("now", "device cuda:99: …").unwrap();
    assert_eq!(store.get("now").unwrap(), "device cuda:99: …");
    assert_eq!(store.add("count", 2).unwrap(), 2);
    assert_eq!(store.add("count", 3).unwrap(), 5);
}

#[test]
fn nccl_without_the_cuda_half_is_refused_in_words_of_ours() {
    assert!(std::env::var_os(PLACE).is_none());
    let place = tempfile::tempdir().unwrap();
    let store = store_of_one(place.path());
    let error = ProcessGroup::open(&store, (0, 1), Fabric::Nccl, SHORT).unwrap_err();
    assert!(
        error.to_string().contains("libtorch's CUDA half is not open"),
        "{error}"
    );
}

#[test]
fn names_and_layouts_are_those_of_the_libtorch_that_is_there() {
    let version = demask_model::device::cuda::torch_version();
    assert!(
        version.starts_with("2.11."),
        "libtorch {version}: the constructors that csrc/world.cpp makes c10d's groups by, and their sizes, are 2.11's; see there"
    );
}
