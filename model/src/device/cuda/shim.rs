//! The functions of `csrc/cuda.cpp`. In a build without C++ code they report no device.

#[cfg(fused)]
pub(super) use built::{asked, deterministic, forget_peak, make_current, memory, release, settle, version};
#[cfg(not(fused))]
pub(super) use left_out::{
    asked, deterministic, forget_peak, make_current, memory, release, settle, version,
};

#[cfg(fused)]
mod built {
    use std::ffi::{CStr, c_char, c_int};

    use crate::device::cuda::Memory;
    use crate::device::kernels::ffi::check;
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_torch_version() -> *const c_char;
        fn demask_cuda_asked() -> c_int;
        fn demask_cuda_settle() -> c_int;
        fn demask_cuda_make_current(device: i64) -> c_int;
        fn demask_cuda_deterministic(on: c_int, strict: c_int) -> c_int;
        fn demask_cuda_memory(device: i64, five: *mut i64) -> c_int;
        fn demask_cuda_forget_peak(device: i64) -> c_int;
        fn demask_cuda_release() -> c_int;
    }

    pub fn version() -> String {
        // SAFETY: the text is static in libtorch.
        let version = unsafe { CStr::from_ptr(demask_torch_version()) };
        version.to_string_lossy().into_owned()
    }

    pub fn asked() -> bool {
        // SAFETY: the function takes nothing and reads a flag.
        unsafe { demask_cuda_asked() != 0 }
    }

    pub fn settle() -> Result<()> {
        // SAFETY: the function takes nothing.
        check(unsafe { demask_cuda_settle() })
    }

    pub fn make_current(device: usize) -> Result<()> {
        // SAFETY: the function takes a number.
        check(unsafe { demask_cuda_make_current(device as i64) })
    }

    pub fn deterministic(on: bool, strict: bool) -> Result<()> {
        // SAFETY: the function takes two numbers.
        check(unsafe { demask_cuda_deterministic(on.into(), strict.into()) })
    }

    pub fn memory(device: usize) -> Result<Memory> {
        let mut five = [0i64; 5];
        // SAFETY: the function writes five numbers, which the buffer holds.
        check(unsafe { demask_cuda_memory(device as i64, five.as_mut_ptr()) })?;
        let [free, total, held, used, peak] = five.map(|bytes| u64::try_from(bytes).unwrap_or(0));
        Ok(Memory {
            free,
            total,
            held,
            used,
            peak,
        })
    }

    pub fn forget_peak(device: usize) -> Result<()> {
        // SAFETY: the function takes a number.
        check(unsafe { demask_cuda_forget_peak(device as i64) })
    }

    pub fn release() -> Result<()> {
        // SAFETY: the function takes nothing.
        check(unsafe { demask_cuda_release() })
    }
}

#[cfg(not(fused))]
mod left_out {
    use crate::device::cuda::Memory;
    use crate::error::{ModelError, Result};

    pub fn version() -> String {
        String::new()
    }

    pub fn asked() -> bool {
        false
    }

    pub fn settle() -> Result<()> {
        absent()
    }

    pub fn make_current(_device: usize) -> Result<()> {
        absent()
    }

    pub fn deterministic(_on: bool, _strict: bool) -> Result<()> {
        absent()
    }

    pub fn memory(_device: usize) -> Result<Memory> {
        absent()
    }

    pub fn forget_peak(_device: usize) -> Result<()> {
        absent()
    }

    pub fn release() -> Result<()> {
        absent()
    }

    fn absent<T>() -> Result<T> {
        let message = "this build has no C++ code, so it cannot query libtorch's CUDA libraries";
        Err(ModelError::Refused(message.into()))
    }
}
