//! What a process does that a section started as a rank.
//!
//! On a GPU a call returns before it is carried out, and the host waits when it reads a result. The world's watch over
//! NCCL's calls ends the process if a call is not carried out within the time limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use demask_model::world::environment::STORE_FILE;
use demask_model::world::{Membership, Reduce, World, exit};
use tch::{Device, Kind, Tensor};

use super::peers::set_mark;
use crate::clock::wait;
use crate::options::Options;

/// How long ranks wait for one another at the start.
const JOINING: Duration = Duration::from_secs(60);
/// The time limit of a call in these scenes.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How long a GPU is kept busy before a call, much longer than the time limit.
pub const BUSY: Duration = Duration::from_secs(30);
/// The side of the matrices that keep it busy. Each product takes about a tenth of a second.
const SIDE: i64 = 32_768;

/// Two ranks make one call.
pub const MEET: &str = "meet";
/// Two ranks make one call after the other until a call fails.
pub const ROUNDS: &str = "rounds";
/// A rank makes a call behind work that takes longer than the time limit.
pub const LATE: &str = "late";
/// A rank leaves while its call waits for such work.
pub const LEAVES: &str = "leaves";

/// Plays this rank's part in a scene.
///
/// # Errors
/// Returns an error if there is no such scene, and the errors of the world.
pub fn play(scene: &str, options: &Options) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let store = PathBuf::from(std::env::var_os(STORE_FILE).context("no store file: a section starts ranks")?);
    let member = Membership::from_variables(&|name| std::env::var(name).ok())?;
    let rank = Rank {
        world: World::join_within(member, place.device, JOINING, LIMIT)?,
        device: place.device,
        store,
    };
    match scene {
        MEET => rank.meet(),
        ROUNDS => rank.rounds(),
        LATE => rank.late(place.kind),
        LEAVES => rank.leaves(place.kind),
        other => bail!("no scene {other}"),
    }
}

struct Rank {
    world: World,
    device: Device,
    store: PathBuf,
}

impl Rank {
    fn ready(&self) -> anyhow::Result<()> {
        set_mark(&self.store, self.world.rank())
    }

    fn ones(&self) -> demask_model::Result<Tensor> {
        Ok(Tensor::f_ones([1000], (Kind::Float, self.device))?)
    }

    /// Makes a call and reads its result.
    fn call(&self, numbers: &Tensor) -> demask_model::Result<f64> {
        self.world.group(self.device).all_reduce(numbers, Reduce::Most)?;
        Ok(numbers.f_double_value(&[0])?)
    }

    fn meet(&self) -> anyhow::Result<()> {
        let found = self.call(&self.ones()?)?;
        ensure!(found == 1.0, "found {found}, expected 1");
        eprintln!("the call was carried out");
        Ok(())
    }

    fn rounds(&self) -> anyhow::Result<()> {
        let numbers = self.ones()?;
        for round in 0_u64.. {
            if let Err(error) = self.call(&numbers) {
                eprintln!("{error}");
                exit::leave(exit::PEER_LOST, &error);
            }
            if round == 3 {
                self.ready()?;
            }
        }
        Ok(())
    }

    fn late(&self, kind: Kind) -> anyhow::Result<()> {
        let numbers = self.ones()?;
        self.call(&numbers)?;
        keep_busy(self.device, kind)?;
        self.ready()?;
        let began = Instant::now();
        self.call(&numbers)?;
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("the call was carried out after {seconds:.1} s, whatever its limit");
        Ok(())
    }

    fn leaves(&self, kind: Kind) -> anyhow::Result<()> {
        let numbers = self.ones()?;
        self.call(&numbers)?;
        keep_busy(self.device, kind)?;
        self.world.group(self.device).all_reduce(&numbers, Reduce::Most)?;
        self.ready()?;
        exit::leave(exit::PEER_LOST, &"it was asked to")
    }
}

/// Queues matrix products that take [`BUSY`] on a GPU, and returns when they are queued. A CPU has no queue, so nothing
/// is done there.
fn keep_busy(device: Device, kind: Kind) -> anyhow::Result<()> {
    if !device.is_cuda() {
        return Ok(());
    }
    let matrix = Tensor::f_ones([SIDE, SIDE], (kind, device))?;
    let product = || -> anyhow::Result<()> {
        let _product = matrix.f_matmul(&matrix)?;
        Ok(())
    };
    product()?;
    wait(device);
    let began = Instant::now();
    product()?;
    wait(device);
    let count = BUSY.as_secs_f64() / began.elapsed().as_secs_f64();
    let mut queued = 0.0;
    while queued < count {
        product()?;
        queued += 1.0;
    }
    Ok(())
}
