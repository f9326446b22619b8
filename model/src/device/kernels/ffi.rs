//! The foreign function interface to the C++ code of `csrc`: how tensors are passed and errors are returned.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{TchError, Tensor};

use crate::error::Result;

unsafe extern "C" {
    fn demask_last_error() -> *const c_char;
}

/// A pointer to an `at::Tensor`, or to another C++ object.
pub(crate) type Handle = *mut c_void;

/// Returns the handle of a tensor that Rust owns. It is valid as long as the tensor.
pub(crate) fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut().cast()
}

/// Converts the return code of a function of `csrc`, which is 0 on success.
///
/// # Errors
/// [`ModelError::Torch`](crate::ModelError::Torch) with the message that the function left behind.
pub(crate) fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the text lives until the next call of a kernel on this thread.
    let words = unsafe { CStr::from_ptr(demask_last_error()) };
    Err(TchError::Torch(words.to_string_lossy().into_owned()).into())
}

/// Takes ownership of a tensor that a kernel allocated.
pub(crate) fn take(made: Handle) -> Tensor {
    // SAFETY: a kernel that returned 0 has allocated the tensor with `new`, and there is no other owner.
    unsafe { Tensor::from_ptr(made.cast()) }
}
