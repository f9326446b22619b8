//! How the program ends: its exit codes, and a usage that is wrong in a way that clap cannot see.

/// The exit code of a command that ran and failed.
pub const FAILED: u8 = 1;
/// The exit code of a command that followed a run which did not come to its end: a person stopped it, or the daemon ended.
pub const STOPPED: u8 = 3;
/// The exit code of a command that was typed wrongly.
pub const USAGE: u8 = 2;

/// A wrong usage that clap cannot see: an unknown profile key, a suite that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);
