//! The connection of a command to the daemon of a home, including the wait while the daemon starts or ends; and records
//! that a command writes beside it.
//!
//! Not here: starting a daemon (`commands::experiment::daemon`).

pub mod append;
pub mod line;
pub mod reach;
