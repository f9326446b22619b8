//! The same bits for the same work on a GPU (law L8), where libtorch has a way: what it costs, and where it ends.
//!
//! On the CPU nothing here is called: there the same seed gives the same bits anyway.

use std::sync::atomic::{AtomicBool, Ordering};

use super::shim;
use crate::error::Result;

/// Says `0` or `1`; [`set_deterministic`] says otherwise.
pub const DETERMINISTIC: &str = "DEMASK_DETERMINISTIC";
/// cuBLAS keeps eight workspaces of 4 MiB, and so adds in the same order whatever else runs.
const WORKSPACE: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

static ON: AtomicBool = AtomicBool::new(false);

/// What the environment asks for: yes, unless it says `0`.
#[must_use]
pub fn deterministic() -> bool {
    std::env::var(DETERMINISTIC).map_or(true, |value| value.trim() != "0")
}

/// Has libtorch's CUDA half, which must be open, take ways that give the same bits each time, or the fastest ones: convolutions
/// and products from here on, all operators in what is done [`strictly`]. Sampling needs no more: what it writes by index has
/// no index twice, and the ways that libtorch then takes would sort the indices first, at every block.
///
/// # Errors
/// Any error libtorch reports.
pub fn set_deterministic(on: bool) -> Result<()> {
    if on && std::env::var_os(WORKSPACE.0).is_none() {
        // SAFETY: at start-up, before libtorch has threads that read the environment; Rust's readers take the lock that this
        // takes. cuBLAS reads it when it is first used.
        unsafe { std::env::set_var(WORKSPACE.0, WORKSPACE.1) };
    }
    shim::deterministic(on, false)?;
    ON.store(on, Ordering::SeqCst);
    Ok(())
}

/// Does work in which every operator takes a deterministic way, if determinism is on, and one that has none is refused (where
/// it would only warn, the backward pass of attention stays as it is). Else it just does the work.
///
/// # Errors
/// Those of the work; libtorch's, "does not have a deterministic implementation" among them.
pub fn strictly<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !ON.load(Ordering::SeqCst) {
        return work();
    }
    shim::deterministic(true, true)?;
    let _back = BackTo { strict: false };
    work()
}

/// Does work inside of [`strictly`] as it would be done outside of it.
///
/// # Errors
/// Those of the work, or any error libtorch reports.
pub fn leniently<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !ON.load(Ordering::SeqCst) {
        return work();
    }
    shim::deterministic(true, false)?;
    let _back = BackTo { strict: true };
    work()
}

/// Back to what is on outside, also after a panic.
struct BackTo {
    strict: bool,
}

impl Drop for BackTo {
    fn drop(&mut self) {
        if let Err(error) = shim::deterministic(true, self.strict) {
            tracing::warn!("{error}");
        }
    }
}
