//! The C++ of `csrc/cuda.cpp`; a build without it knows nothing of a device.

use super::Memory;
use crate::error::Result;

#[cfg(fused)]
mod calls {
    use std::ffi::c_int;

    unsafe extern "C" {
        pub(super) fn demask_cuda_asked() -> c_int;
        pub(super) fn demask_cuda_memory(device: i64, five: *mut i64) -> c_int;
        pub(super) fn demask_cuda_forget_peak(device: i64) -> c_int;
        pub(super) fn demask_cuda_release() -> c_int;
    }
}

#[cfg(fused)]
use crate::fused::kernels::check;

/// Whether something asked for libtorch's CUDA half before it was open.
#[cfg(fused)]
pub(super) fn asked() -> bool {
    // SAFETY: reads a flag.
    unsafe { calls::demask_cuda_asked() != 0 }
}

#[cfg(fused)]
pub(super) fn memory(device: usize) -> Result<Memory> {
    let mut five = [0i64; 5];
    // SAFETY: five numbers of room.
    check(unsafe { calls::demask_cuda_memory(device as i64, five.as_mut_ptr()) })?;
    let [free, total, held, used, peak] = five.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    Ok(Memory {
        free,
        total,
        held,
        used,
        peak,
    })
}

#[cfg(fused)]
pub(super) fn forget_peak(device: usize) -> Result<()> {
    // SAFETY: a number.
    check(unsafe { calls::demask_cuda_forget_peak(device as i64) })
}

#[cfg(fused)]
pub(super) fn release() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { calls::demask_cuda_release() })
}

#[cfg(not(fused))]
pub(super) fn asked() -> bool {
    false
}

#[cfg(not(fused))]
pub(super) fn memory(_device: usize) -> Result<Memory> {
    absent()
}

#[cfg(not(fused))]
pub(super) fn forget_peak(_device: usize) -> Result<()> {
    absent()
}

#[cfg(not(fused))]
pub(super) fn release() -> Result<()> {
    absent()
}

#[cfg(not(fused))]
fn absent<T>() -> Result<T> {
    let message = "this build has no C++ of its own and asks libtorch's CUDA half nothing";
    Err(crate::error::ModelError::Refused(message.into()))
}
