//! Frees and reallocates the memory of tensors that continue to exist, such as weights that are sharded among ranks
//! (`weights/shards/`).

use tch::Tensor;

use crate::error::Result;

/// Frees the memory of a tensor and of all its views. A read from one of them before [`fill`] has reallocated the
/// memory crashes the process.
///
/// # Errors
/// Any error libtorch reports; an error if the build has no C++ half.
pub(crate) fn clear(tensor: &Tensor) -> Result<()> {
    shim::resize(tensor, 0)
}

/// Reallocates memory for all elements of a tensor that begins at the start of its storage. The values are undefined.
///
/// # Errors
/// Any error libtorch reports, such as out of memory; an error if the build has no C++ half.
pub(crate) fn fill(tensor: &Tensor) -> Result<()> {
    shim::resize(tensor, tensor.numel() * tensor.kind().elt_size_in_bytes())
}

/// Drops the gradient of a leaf tensor, which frees its memory; setting it to zero would not.
///
/// # Errors
/// Any error libtorch reports; an error if the build has no C++ half.
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
        // SAFETY: the handle is a live tensor. The callers ensure that no transfer to or from its memory is in
        // progress.
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
        Err(ModelError::Refused("this build has no C++ code".into()))
    }

    pub(super) fn drop_grad(_: &Tensor) -> Result<()> {
        Err(ModelError::Refused("this build has no C++ code".into()))
    }
}
