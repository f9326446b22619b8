//! The memory of tensors that stay while what they hold comes and goes, as weights do that ranks share out (`weights/shards/`).

use tch::Tensor;

use crate::error::Result;

/// Gives the memory of a tensor and of all its views back. Whoever reads one of them before [`fill`] has asked for it again ends
/// the process.
///
/// # Errors
/// libtorch's; a build without the C++ half.
pub(crate) fn clear(tensor: &Tensor) -> Result<()> {
    shim::resize(tensor, 0)
}

/// Has memory for all numbers of a tensor, which begins its storage, again; its values are whatever they are.
///
/// # Errors
/// libtorch's, out of memory among them; a build without the C++ half.
pub(crate) fn fill(tensor: &Tensor) -> Result<()> {
    shim::resize(tensor, tensor.numel() * tensor.kind().elt_size_in_bytes())
}

/// Lets a leaf's gradient go, where zeroing would keep its memory.
///
/// # Errors
/// libtorch's; a build without the C++ half.
pub(crate) fn drop_grad(leaf: &Tensor) -> Result<()> {
    shim::drop_grad(leaf)
}

#[cfg(fused)]
mod shim {
    use std::ffi::c_int;

    use tch::Tensor;

    use crate::device::kernels::ffi::{Handle, check, handle};
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_storage_resize(tensor: Handle, bytes: i64) -> c_int;
        fn demask_grad_drop(leaf: Handle) -> c_int;
    }

    pub(super) fn resize(tensor: &Tensor, bytes: usize) -> Result<()> {
        // SAFETY: the handle is a live tensor; nothing is on its way to or from its memory (the callers').
        check(unsafe { demask_storage_resize(handle(tensor), i64::try_from(bytes).unwrap_or(i64::MAX)) })
    }

    pub(super) fn drop_grad(leaf: &Tensor) -> Result<()> {
        // SAFETY: the handle is a live tensor.
        check(unsafe { demask_grad_drop(handle(leaf)) })
    }
}

#[cfg(not(fused))]
mod shim {
    use tch::Tensor;

    use crate::error::{ModelError, Result};

    pub(super) fn resize(_: &Tensor, _: usize) -> Result<()> {
        Err(ModelError::Refused("this build has no C++ half".into()))
    }

    pub(super) fn drop_grad(_: &Tensor) -> Result<()> {
        Err(ModelError::Refused("this build has no C++ half".into()))
    }
}
