//! Ranks on the device: NCCL on a GPU, Gloo on a CPU.
//!
//! - `calls.rs`: the collective calls of a world of one: values, streams, time;
//! - `faults.rs`: peers that never come, hang, are killed or suspended;
//! - `peers.rs`: processes of this program as ranks; `scenes.rs`: what such a process does.
//!
//! On one GPU a world has one rank, because NCCL takes every GPU once. With two GPUs, `faults.rs` and `runs/ranks.rs`
//! use cuda:0 and cuda:1 without being asked to.

pub mod calls;
pub mod faults;
mod peers;
pub mod scenes;

use std::path::Path;
use std::time::Duration;

use demask_model::world::{Membership, Rendezvous, World};
use tch::Device;

use crate::figure::Teller;
use crate::options::Options;

/// How long a world of one waits for itself.
const JOINING: Duration = Duration::from_secs(30);
/// The time limit of its calls.
const CALLING: Duration = Duration::from_secs(60);

/// Returns the membership of the only rank of a world that meets in a file in `folder`.
pub fn alone(folder: &Path) -> Membership {
    Membership {
        rank: 0,
        size: 1,
        local_rank: 0,
        local_size: None,
        generation: 0,
        rendezvous: Rendezvous::File(folder.join("store")),
    }
}

/// Joins a world of one that meets in `folder`.
///
/// # Errors
/// Returns the errors of the store and of the groups.
pub fn join_alone(folder: &Path, device: Device) -> anyhow::Result<World> {
    Ok(World::join_within(alone(folder), device, JOINING, CALLING)?)
}

/// Returns the devices of two ranks: two GPUs, or the CPU twice. `None` if there is one GPU.
///
/// # Errors
/// Returns an error if the device does not exist.
pub fn pair(options: &Options) -> anyhow::Result<Option<[String; 2]>> {
    let place = options.place("auto")?;
    if !place.device.is_cuda() {
        return Ok(Some(["cpu", "cpu"].map(str::to_owned)));
    }
    let is_pair = place.cuda.devices().len() > 1;
    Ok(is_pair.then(|| ["cuda:0", "cuda:1"].map(str::to_owned)))
}

/// Runs a check and prints its note, or its error as a failure, so that the checks after it still run.
pub fn attempt(teller: &Teller, figure: &str, work: impl FnOnce() -> anyhow::Result<String>) {
    match work() {
        Ok(note) => teller.check(figure, true, &note),
        Err(error) => failed(teller, figure, &error),
    }
}

/// Prints a check that an error has ended. Errors of libtorch may have several lines, and the table has one.
pub fn failed(teller: &Teller, figure: &str, error: &anyhow::Error) {
    let words = format!("{error:#}");
    teller.check(figure, false, words.lines().next().unwrap_or_default());
}
