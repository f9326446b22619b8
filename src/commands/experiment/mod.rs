//! Runs, the daemon that does them, and the store that keeps them.
//!
//! Not here: what a run does (the `actors` crate), the dashboard (the `tui` crate).

pub mod ask;
pub mod control;
pub mod daemon;
mod follow;
pub mod profile;
pub mod query;
pub mod queue;
pub mod request;
pub mod resume;
pub mod run;
pub mod runs;
pub mod study;
