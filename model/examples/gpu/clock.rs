//! Time and memory of a device.

use std::time::Instant;

use demask_model::device::cuda;
use tch::{Cuda, Device};

/// Waits until a device has done what it was given.
pub fn wait(device: Device) {
    if let Device::Cuda(number) = device {
        Cuda::synchronize(number as i64);
    }
}

/// Milliseconds of the middle run, after one that is not counted; each waits for the device.
///
/// # Errors
/// Those of `work`.
pub fn median(
    device: Device,
    runs: usize,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        wait(device);
        let began = Instant::now();
        work()?;
        wait(device);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[runs / 2])
}

/// Memory in GB.
pub struct Memory {
    /// The most that this process has had; on a GPU the most that its tensors took.
    pub taken: f64,
    /// What was left of the device beside that.
    pub free: Option<f64>,
}

/// Memory of a device as it is now.
pub fn memory(device: Device) -> Option<Memory> {
    match device {
        Device::Cuda(_) => {
            let memory = cuda::memory(device)?;
            let free = (memory.free + memory.held).saturating_sub(memory.peak);
            Some(Memory {
                taken: memory.peak as f64 / 1e9,
                free: Some(free as f64 / 1e9),
            })
        }
        _ => {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            let kilobytes: f64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
            Some(Memory {
                taken: kilobytes * 1024.0 / 1e9,
                free: None,
            })
        }
    }
}
