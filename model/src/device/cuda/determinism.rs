//! Determinism on a GPU (law L8): the same work gives the same bits, as far as libtorch has deterministic operators.
//!
//! A CPU needs none of this, because there the same seed always gives the same bits.

use std::sync::atomic::{AtomicBool, Ordering};

use super::shim;
use crate::error::Result;

/// The environment variable with the initial setting, `0` or `1`. [`set_deterministic`] changes it later.
pub const DETERMINISTIC: &str = "DEMASK_DETERMINISTIC";
/// The setting by which cuBLAS has eight fixed workspaces of 4 MiB. It then adds in the same order whatever else runs.
const WORKSPACE: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

static ON: AtomicBool = AtomicBool::new(false);

/// Returns the setting of the environment variable: true, unless it is `0`.
#[must_use]
pub fn deterministic() -> bool {
    std::env::var(DETERMINISTIC).map_or(true, |value| value.trim() != "0")
}

/// Switches determinism on or off. libtorch's CUDA libraries must be loaded.
///
/// It takes effect for convolutions and matrix products at once, and for all other operators within [`strictly`].
/// Sampling needs no more than the former: it never writes to an index twice, and libtorch's deterministic index
/// operators would sort the indices at every block.
///
/// # Errors
/// Any error libtorch reports.
pub fn set_deterministic(on: bool) -> Result<()> {
    if on && std::env::var_os(WORKSPACE.0).is_none() {
        // SAFETY: at start-up, before libtorch has threads that read the environment; Rust's readers take the lock that
        // this takes. cuBLAS reads it when it is first used.
        unsafe { std::env::set_var(WORKSPACE.0, WORKSPACE.1) };
    }
    shim::deterministic(on, false)?;
    ON.store(on, Ordering::SeqCst);
    Ok(())
}

/// Runs `work` with only deterministic operators, if determinism is on. An operator without a deterministic
/// implementation fails; with a mere warning, the backward pass of attention would not be deterministic.
///
/// # Errors
/// The errors of `work`, or any error libtorch reports, including "does not have a deterministic implementation".
pub fn strictly<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !ON.load(Ordering::SeqCst) {
        return work();
    }
    shim::deterministic(true, true)?;
    let _back = BackTo { strict: false };
    work()
}

/// Runs `work`, within [`strictly`], as outside of it.
///
/// # Errors
/// The errors of `work`, or any error libtorch reports.
pub fn leniently<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !ON.load(Ordering::SeqCst) {
        return work();
    }
    shim::deterministic(true, false)?;
    let _back = BackTo { strict: true };
    work()
}

/// Restores the outer setting when it is dropped, also after a panic.
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
