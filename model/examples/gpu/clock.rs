//! Time and memory of a device.

use std::time::Instant;

use demask_model::device::cuda;
use tch::{Cuda, Device};

/// Waits until the device has completed all work it was given.
pub fn wait(device: Device) {
    if let Device::Cuda(number) = device {
        Cuda::synchronize(number as i64);
    }
}

/// Returns the median run time in milliseconds, after one run that is not counted. Each run waits for the
/// device.
///
/// # Errors
/// Returns the errors of `work`.
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
    /// Peak memory: of this process on a CPU, of its tensors on a GPU.
    pub taken: f64,
    /// Device memory that was left besides the peak.
    pub free: Option<f64>,
    /// Device memory that libtorch's allocator has reserved, in use or not.
    pub reserved: Option<f64>,
}

/// Returns the memory use of a device so far.
pub fn memory(device: Device) -> Option<Memory> {
    match device {
        Device::Cuda(_) => {
            let memory = cuda::memory(device)?;
            let free = (memory.free + memory.held).saturating_sub(memory.peak);
            Some(Memory {
                taken: memory.peak as f64 / 1e9,
                free: Some(free as f64 / 1e9),
                reserved: Some(memory.held as f64 / 1e9),
            })
        }
        _ => {
            let status = std::fs::read_to_string("/proc/self/status").ok()?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            let kilobytes: f64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
            Some(Memory {
                taken: kilobytes * 1024.0 / 1e9,
                free: None,
                reserved: None,
            })
        }
    }
}
