//! How Rust hands tensors to the C++ of `csrc`, and how an error of it comes back.

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::{TchError, Tensor};

use crate::error::Result;

unsafe extern "C" {
    fn demask_last_error() -> *const c_char;
}

/// A pointer to an `at::Tensor` (or another object of the C++ half).
pub(crate) type Handle = *mut c_void;

/// The handle of a tensor that Rust keeps; it is valid as long as the borrow.
pub(crate) fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut().cast()
}

/// A function of `csrc` answers 0, or else leaves the text of its error behind.
///
/// # Errors
/// That text.
pub(crate) fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the text lives until the next kernel of this thread.
    let words = unsafe { CStr::from_ptr(demask_last_error()) };
    Err(TchError::Torch(words.to_string_lossy().into_owned()).into())
}

/// Takes over a tensor that a kernel made.
pub(crate) fn take(made: Handle) -> Tensor {
    // SAFETY: a kernel that answered 0 gives a `new at::Tensor`, owned by nobody else.
    unsafe { Tensor::from_ptr(made.cast()) }
}
