//! The engine as seen by the other processes: its process and its watchdog, the actor that owns it, and the link that
//! both implement. `body.rs` is the process behind an engine's socket, `child.rs` the trait of one of this machine,
//! `error_log.rs` its last words; `join/` has the engines that join from elsewhere.
//!
//! Not here: the requests to an engine (`inference`, `run`), and everything that links libtorch (the `model` crate).

pub mod actor;
pub mod address;
mod body;
pub mod child;
mod error_log;
pub mod join;
pub mod link;
pub mod liveness;
pub mod options;
pub mod process;
pub mod starter;
mod world;
