//! Time and memory of a device.

use std::time::Instant;

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
    /// The most that this process has had; on a GPU all that is taken there now, which libtorch gives back to nobody.
    pub taken: f64,
    /// What is left on the device.
    pub free: Option<f64>,
}

/// Memory of a device as it is now.
pub fn memory(device: Device) -> Option<Memory> {
    match device {
        Device::Cuda(_) => {
            let (free, all) = cuda_memory()?;
            Some(Memory {
                taken: (all - free) as f64 / 1e9,
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

/// Free bytes and all bytes of the present CUDA device, by the runtime that libtorch has opened.
fn cuda_memory() -> Option<(usize, usize)> {
    type GetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> libc::c_int;
    // SAFETY: the runtime's function of that name takes two places for numbers, and answers 0 when it has written them.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if found.is_null() {
            return None;
        }
        let get: GetInfo = std::mem::transmute(found);
        let (mut free, mut all) = (0, 0);
        (get(&raw mut free, &raw mut all) == 0).then_some((free, all))
    }
}
