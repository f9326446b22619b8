//! Commands about runs, the daemon that executes them, and the store of their results.
//!
//! Not here: what a run does (the `actors` crate), and the dashboard (the `tui` crate).

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
