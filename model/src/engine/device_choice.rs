//! The choice of the device and dtype to compute with. One build serves CPU and CUDA (`cuda/`).

use std::num::NonZeroUsize;

use demask_api::{Cuda, DeviceInfo};
use tch::{Device, Kind};

use crate::device::cuda;
use crate::device::kernels::fused;
use crate::device::kernels::kernel_set::KernelSet;
use crate::device::kernels::threads::meet_threads;
use crate::engine::seat::Seat;
use crate::error::{ModelError, Result};

/// Makes the allocator keep freed memory, because the next training or sampling step allocates as much again.
/// Memory that comes back from the system costs a page fault every four kilobytes: 7 to 16 % of a training
/// step, measured on two cores with d 512 and a vocabulary of 32 000.
///
/// Above 32 MB, and for what does not fit a thread's own arena, glibc uses `mmap` whatever the threshold is.
/// `mmap` is therefore turned off, and all threads share one arena. Call this before the process starts
/// threads.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes integers and ignores those that it does not support.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Makes the allocator return large freed blocks to the system at once. Sharded weights need this: they are
/// gathered and freed block by block on machines that are short of memory, and a heap that keeps freed blocks
/// fragments into holes of the wrong sizes. Call this before the process starts threads.
pub fn give_freed_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes integers and ignores those that it does not support.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// The size in bytes from which a block has its own pages, so that freeing it returns them to the system.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: i32 = 1 << 20;

/// The device and dtype of matrix products.
#[derive(Clone, Debug)]
pub struct Place {
    /// The device that computes.
    pub device: Device,
    /// The dtype of matrix products: f32 or bf16.
    pub kind: Kind,
    /// The number of CPU threads; 0 on a GPU.
    pub threads: usize,
    /// The reason why this dtype was chosen.
    pub reason: String,
    /// The state of CUDA on this machine.
    pub cuda: Cuda,
}

impl Place {
    /// Chooses a place for a process that computes alone, as [`Self::choose_at`] does.
    ///
    /// # Errors
    /// The errors of [`Self::choose_at`].
    pub fn choose(device: &str, dtype: &str, threads: Option<usize>) -> Result<Self> {
        Self::choose_at(device, dtype, threads, Seat::Alone)
    }

    /// Chooses a place from a device (`auto`, `cpu`, `cuda`, `cuda:N`) and a dtype (`auto`, `f32`, `bf16`), and sets
    /// the number of CPU threads. With `auto` and `cuda`, which of several GPUs it is depends on the process's seat.
    ///
    /// # Errors
    /// Refuses an unknown device or dtype, a device that this machine lacks, and a seat for which there is none.
    pub fn choose_at(device: &str, dtype: &str, threads: Option<usize>, seat: Seat) -> Result<Self> {
        let found = match device {
            "cpu" => Cuda::Off {
                because: "the chosen device is cpu".into(),
            },
            _ => cuda::open().clone(),
        };
        let device = device_for(device, &found, seat)?;
        if let Device::Cuda(number) = device {
            cuda::make_current(number)?;
        }
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if device == Device::Cpu {
            meet_threads();
            tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
        }
        let (kind, reason) = dtype_for(device, dtype)?;
        Ok(Self {
            device,
            kind,
            threads: if device == Device::Cpu { threads } else { 0 },
            reason,
            cuda: found,
        })
    }

    /// Returns the name of the dtype of matrix products, and the name of the one that `auto` chooses on this device.
    #[must_use]
    pub fn dtypes(&self) -> (&'static str, &'static str) {
        let auto = dtype_for(self.device, "auto").map_or(self.kind, |(kind, _)| kind);
        (dtype_name(self.kind), dtype_name(auto))
    }

    /// Returns the kernel set for attention over cached keys, if one applies to this device and dtype.
    fn kernels(&self) -> Option<KernelSet> {
        KernelSet::chosen().filter(|_| fused::applies_to(self.device, self.kind))
    }

    /// Returns the place as the protocol describes it.
    #[must_use]
    pub fn info(&self) -> DeviceInfo {
        let name = match self.device {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "cpu".to_owned(),
        };
        DeviceInfo {
            name,
            threads: self.threads,
            compute: self.reason.clone(),
            kernels: self.kernels().map(|set| set.name().to_owned()),
            matmul_gflops: None,
            cuda: self.cuda.clone(),
        }
    }
}

fn device_for(asked: &str, found: &Cuda, seat: Seat) -> Result<Device> {
    let refused = |why: String| Err(ModelError::Refused(format!("device {asked}: {why}")));
    let count = found.devices().len();
    match (asked, NonZeroUsize::new(count)) {
        ("cpu", _) => return Ok(Device::Cpu),
        ("auto" | "cuda", Some(devices)) => return Ok(Device::Cuda(seat.device(devices)?)),
        ("auto", None) => {
            if cuda::has_device_files() {
                tracing::warn!("the CPU is used: {}", found.with_fix());
            }
            return Ok(Device::Cpu);
        }
        ("cuda", None) => return refused(found.with_fix()),
        _ => {}
    }
    let number = asked.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    let Some(number) = number else {
        return refused("expected auto, cpu, cuda or cuda:N".into());
    };
    if !found.is_ready() {
        return refused(found.with_fix());
    }
    match count {
        count if number < count => Ok(Device::Cuda(number)),
        1 => refused("this machine has one device, cuda:0".into()),
        count => refused(format!(
            "this machine has {count} devices, cuda:0 to cuda:{}",
            count - 1
        )),
    }
}

/// Returns the name of a dtype of matrix products, as `--dtype` takes it.
fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        _ => "f32",
    }
}

fn dtype_for(device: Device, dtype: &str) -> Result<(Kind, String)> {
    match dtype {
        "f32" => Ok((Kind::Float, "f32: as requested".into())),
        "bf16" => Ok((Kind::BFloat16, "bf16: as requested".into())),
        "auto" if device != Device::Cpu => Ok((Kind::BFloat16, "bf16: the GPU supports it natively".into())),
        "auto" => {
            let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            match ["amx_bf16", "avx512_bf16"]
                .into_iter()
                .find(|flag| flags.contains(flag))
            {
                Some(flag) => Ok((Kind::BFloat16, format!("bf16: the processor has {flag}"))),
                None => Ok((Kind::Float, "f32: the processor has no bf16 instructions".into())),
            }
        }
        other => Err(ModelError::Refused(format!(
            "dtype {other}: expected auto, f32 or bf16"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]

    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_how_many_there_are() {
        let device = demask_api::CudaDevice {
            name: "one".into(),
            memory: 1 << 30,
            capability: "9.0".into(),
        };
        let with = |count| Cuda::Ready {
            devices: vec![device.clone(); count],
            driver: "13.0".into(),
            runtime: "13.0".into(),
        };
        let alone = |asked, found: &Cuda| device_for(asked, found, Seat::Alone);
        assert_eq!(alone("cuda:1", &with(2)).unwrap(), Device::Cuda(1));
        assert_eq!(alone("auto", &with(2)).unwrap(), Device::Cuda(0));
        assert_eq!(alone("cuda", &with(2)).unwrap(), Device::Cuda(0));
        for (asked, count, words) in [
            ("cuda:2", 2, "this machine has 2 devices, cuda:0 to cuda:1"),
            ("cuda:1", 1, "this machine has one device"),
        ] {
            let message = alone(asked, &with(count)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        let none = Cuda::NoLibrary {
            looked: vec!["/somewhere".into()],
        };
        for asked in ["cuda", "cuda:0"] {
            let message = alone(asked, &none).unwrap_err().to_string();
            assert!(message.contains("looked in /somewhere"), "{message}");
            assert!(message.contains("pip install"), "{message}");
        }
        // A rank has the device of its number on its machine, unless another one is named for all.
        let rank = Seat::Rank {
            number: 1,
            count: Some(2),
        };
        for (asked, device) in [
            ("auto", Device::Cuda(1)),
            ("cuda", Device::Cuda(1)),
            ("cuda:0", Device::Cuda(0)),
            ("cpu", Device::Cpu),
        ] {
            assert_eq!(device_for(asked, &with(2), rank).unwrap(), device, "{asked}");
        }
        assert_eq!(device_for("auto", &none, rank).unwrap(), Device::Cpu);
    }

    #[test]
    fn a_place_names_its_dtype_and_that_of_auto() {
        let auto = Place::choose("cpu", "auto", Some(1)).unwrap().dtypes();
        assert_eq!(auto.0, auto.1);
        for dtype in ["f32", "bf16"] {
            let dtypes = Place::choose("cpu", dtype, Some(1)).unwrap().dtypes();
            assert_eq!(dtypes, (dtype, auto.1));
        }
    }

    #[test]
    fn unknown_devices_and_dtypes_are_refused_with_what_is_known() {
        for (device, dtype, words) in [
            ("tpu", "auto", "device tpu: expected auto, cpu, cuda or cuda:N"),
            ("cuda:x", "auto", "device cuda:x: expected"),
            ("cpu", "f8", "dtype f8: expected auto, f32 or bf16"),
        ] {
            let message = Place::choose(device, dtype, Some(1)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
