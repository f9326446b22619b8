//! Where and in what dtype to compute; one build serves CPU and CUDA.
//!
//! The programs link the CPU half of libtorch. Where there is a `libtorch_cuda.so`, [`open_cuda`] loads it at start-up and
//! its kernels register themselves.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use demask_api::DeviceInfo;
use tch::{Cuda, Device, Kind};

use crate::error::{ModelError, Result};
use crate::fused;

/// Opens `libtorch_cuda.so` where the dynamic linker finds it, else beside the `libtorch_cpu.so` that this process runs
/// on; says whether a GPU can be used.
pub fn open_cuda() -> bool {
    if std::env::var_os("DEMASK_NO_CUDA").is_some() {
        return false;
    }
    let beside = library_folder();
    let opened = open("libtorch_cuda.so", beside.as_deref());
    if opened {
        // Only some versions have it apart.
        open("libtorch_cuda_linalg.so", beside.as_deref());
    }
    opened && Cuda::is_available()
}

/// Keeps what is freed for the next step of training or sampling, which asks for as much again: to have it from the system
/// anew costs a page fault every four kilobytes. Measured: 7 % of a training step.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two numbers of the allocator's; it takes them or not.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}

/// The folder of the `libtorch_cpu.so` that is in this process's memory.
#[must_use]
pub fn library_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        path.ends_with("/libtorch_cpu.so").then(|| Path::new(path))
    })?;
    path.parent().map(Path::to_owned)
}

fn open(name: &str, folder: Option<&Path>) -> bool {
    if open_library(Path::new(name)).is_ok() {
        return true;
    }
    let Some(path) = folder
        .map(|folder| folder.join(name))
        .filter(|path| path.exists())
    else {
        return false;
    };
    match open_library(&path) {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!("{} is there but cannot be opened: {why}", path.display());
            false
        }
    }
}

fn open_library(path: &Path) -> std::result::Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a NUL-terminated name; the library's constructors register kernels and nothing else. The words of the
    // failure are copied before anything else can fail.
    unsafe {
        if !libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return Ok(());
        }
        let words = libc::dlerror();
        if words.is_null() {
            return Err("the linker does not say why".into());
        }
        Err(CStr::from_ptr(words).to_string_lossy().into_owned())
    }
}

/// A device and a dtype for matrix products.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where.
    pub device: Device,
    /// f32 or bf16.
    pub kind: Kind,
    /// CPU threads; 0 on a GPU.
    pub threads: usize,
    /// Why this dtype.
    pub reason: String,
}

impl Place {
    /// Chooses from what was asked: `auto`, `cpu`, `cuda:N`; `auto`, `f32`, `bf16`.
    ///
    /// # Errors
    /// A device or dtype that is unknown or not there.
    pub fn choose(device: &str, dtype: &str, threads: Option<usize>) -> Result<Self> {
        let has_cuda = device != "cpu" && open_cuda();
        let device = match device {
            "cpu" => Device::Cpu,
            "auto" if has_cuda => Device::Cuda(0),
            "auto" => Device::Cpu,
            other => {
                let number = other.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                match number {
                    Some(number) if has_cuda => Device::Cuda(number),
                    Some(_) => {
                        return Err(ModelError::Refused(format!(
                            "device {other}: no CUDA libtorch or no GPU here"
                        )));
                    }
                    None => {
                        return Err(ModelError::Refused(format!(
                            "device {other}: expected auto, cpu or cuda:N"
                        )));
                    }
                }
            }
        };
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if device == Device::Cpu {
            fused::meet_threads();
            tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
        }
        let (kind, reason) = dtype_for(device, dtype)?;
        Ok(Self {
            device,
            kind,
            threads: if device == Device::Cpu { threads } else { 0 },
            reason,
        })
    }

    /// As the protocol says it.
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
            matmul_gflops: None,
        }
    }
}

fn dtype_for(device: Device, dtype: &str) -> Result<(Kind, String)> {
    match dtype {
        "f32" => Ok((Kind::Float, "f32: asked for".into())),
        "bf16" => Ok((Kind::BFloat16, "bf16: asked for".into())),
        "auto" if device != Device::Cpu => {
            Ok((Kind::BFloat16, "bf16: the GPU multiplies it natively".into()))
        }
        "auto" => {
            let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            match ["amx_bf16", "avx512_bf16"]
                .into_iter()
                .find(|flag| flags.contains(flag))
            {
                Some(flag) => Ok((Kind::BFloat16, format!("bf16: the processor has {flag}"))),
                None => Ok((Kind::Float, "f32: the processor has no bf16 products".into())),
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
    fn libtorch_is_found_where_it_was_loaded_from() {
        let _ = tch::Tensor::from_slice(&[1.0f32]);
        if cfg!(target_os = "linux") {
            let folder = library_folder().unwrap();
            assert!(folder.join("libtorch_cpu.so").is_file(), "{}", folder.display());
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_not_opened() {
        assert!(!open("libdemask_none.so", None));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("libdemask_none.so"), "no library").unwrap();
        assert!(!open("libdemask_none.so", Some(dir.path())));
        let why = open_library(&dir.path().join("libdemask_none.so")).unwrap_err();
        assert!(why.contains("libdemask_none.so"), "{why}");
    }

    #[test]
    fn unknown_devices_and_dtypes_are_refused_with_what_is_known() {
        for (device, dtype, words) in [
            ("tpu", "auto", "device tpu: expected auto, cpu or cuda:N"),
            ("cuda:x", "auto", "device cuda:x: expected"),
            ("cpu", "f8", "dtype f8: expected auto, f32 or bf16"),
        ] {
            let message = Place::choose(device, dtype, Some(1)).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
