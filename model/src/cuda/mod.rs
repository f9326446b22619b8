//! libtorch's CUDA half: opened at start-up where there is one, and what a device has left.
//!
//! The programs are linked against the CPU half alone, so that one build serves both.

mod memory;
mod shim;

pub use memory::{Memory, forget_peak, memory, release};

/// Whether something asked libtorch for its CUDA half before it was open. libtorch looks once in a process: it is then
/// without CUDA for good.
#[must_use]
pub fn asked_too_early() -> bool {
    shim::asked()
}
