//! Rollouts on one device: an engine that draws while another one trains, against one engine that does both in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use demask_api::memory;
use demask_model::device::cuda;
use tch::Device;

use super::daemon::{Daemon, LOOK, children};
use super::{ALIGN, on_device, settings_of};
use crate::figure::Teller;
use crate::options::Options;
use crate::ranks::failed;

/// The first steps, which are not timed: a sampling engine starts, and kernels are chosen.
const WARM_UP: usize = 2;
/// How long the engines of the run before are waited for, which hold memory of the device until they have ended.
const SETTLING: Duration = Duration::from_secs(10);

/// The ways to draw rollouts: a name, and the profile's lines about it.
const WAYS: [(&str, &str); 2] = [
    ("one engine, in turn", ""),
    (
        "a sampler beside the trainer",
        "[rollouts]\nsamplers = 1\nstaleness = 1\n",
    ),
];

/// What one way gave.
struct Found {
    /// Seconds of the median step.
    seconds: f64,
    /// Bytes of all engines together, at most.
    bytes: u64,
}

/// Runs UniGRPO from the shipped model in both ways, and compares them.
///
/// # Errors
/// Returns an error with the output of a run that fails.
pub fn beside(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let device = options.place("auto")?.device;
    // The device's memory counts for all processes, so it is compared with what is taken before the first run.
    let before = of_device(device).unwrap_or(0);
    let mut seconds = Vec::new();
    for (name, rollouts) in WAYS {
        settle(device, before);
        match one_way(options, device, rollouts) {
            Ok(found) => {
                teller.found(&format!("{name}: steps"), 1.0 / found.seconds, "steps/s", "");
                let bytes = found.bytes.saturating_sub(before) as f64 / 1e9;
                let note = "of all engines, with what CUDA takes";
                teller.found(
                    &format!("{name}: memory"),
                    bytes,
                    "GB",
                    if device.is_cuda() { note } else { "" },
                );
                seconds.push(found.seconds);
            }
            Err(error) => failed(teller, name, &error),
        }
    }
    if let [turn, beside] = seconds[..] {
        let note = "in the same time, steps with a sampler beside";
        teller.found("beside over in turn", turn / beside, "times", note);
    }
    Ok(())
}

fn one_way(options: &Options, device: Device, rollouts: &str) -> anyhow::Result<Found> {
    let (steps, batch, group) = if options.small { (4, 2, 2) } else { (10, 24, 8) };
    let stage = format!(
        "[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = {steps}\nbatch = {batch}\ngroup = {group}\n\
         sources = [\"sums\", \"draw\"]\nlearning_rate = 1e-4\n\
         estimator = {{ kind = \"uni_grpo\", spacing = \"cyclic\" }}\n\
         objective = {{ clip = 0.2, kl = 0.01, inner_steps = 2 }}\n"
    );
    let profile = on_device(options, &format!("{}{rollouts}{stage}", settings_of(ALIGN)));
    let daemon = Daemon::start(options, "beside")?;
    let mut run = daemon.follow(&daemon.profile("beside", &profile)?, &[])?;
    let mut bytes = 0;
    let ended = loop {
        if let Some(ended) = run.try_wait()? {
            break ended;
        }
        bytes = bytes.max(of_device(device).unwrap_or_else(|| of_children(&daemon)));
        std::thread::sleep(LOOK);
    };
    ensure!(ended.success(), "the run: {ended}: {}", daemon.words());
    let sql = "SELECT value FROM v_metric WHERE name = 'rate/step_seconds' ORDER BY step";
    let values = daemon.column(sql)?;
    let mut values: Vec<f64> = values.iter().filter_map(|value| value.parse().ok()).collect();
    let mut timed = values.split_off(WARM_UP.min(values.len()));
    timed.sort_by(f64::total_cmp);
    let seconds = timed.get(timed.len() / 2).copied();
    let seconds = seconds.context("the store has no step times of the run")?;
    Ok(Found { seconds, bytes })
}

/// Returns the bytes that all processes together take of a GPU, or `None` for a CPU.
fn of_device(device: Device) -> Option<u64> {
    let memory = cuda::memory(device)?;
    Some(memory.total.saturating_sub(memory.free))
}

/// Returns the resident memory of a daemon's engines.
fn of_children(daemon: &Daemon<'_>) -> u64 {
    let pids = children(daemon.pid()).into_iter();
    let pids = pids.filter_map(|pid| u64::try_from(pid).ok());
    pids.map(|pid| memory::resident(pid).0).sum()
}

/// Waits until the device's memory is that of before, but not for long.
fn settle(device: Device, before: u64) {
    let began = Instant::now();
    let is_taken = || of_device(device).is_some_and(|bytes| bytes > before + (200 << 20));
    while is_taken() && began.elapsed() < SETTLING {
        std::thread::sleep(LOOK);
    }
}
