//! The exit codes of the program, and the error of a wrong usage that clap cannot detect.

/// Exit code of a command that ran and failed.
pub const FAILED: u8 = 1;
/// Exit code of a command that followed a run which did not reach its end, because the user stopped it or the daemon
/// ended.
pub const STOPPED: u8 = 3;
/// Exit code of `demask stop` when the run is being stopped, but the disk has not confirmed the order.
pub const TAKEN: u8 = 4;
/// Exit code of a command that was typed wrongly.
pub const USAGE: u8 = 2;

/// A wrong usage that clap cannot detect, such as an unknown profile key or suite.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
