//! The engine as seen by the other processes: its process and its watchdog, the actor that owns it, and the link that
//! both implement.
//!
//! Not here: the requests to an engine (`inference`, `run`), and everything that links libtorch (the `model` crate).

pub mod actor;
pub mod link;
pub mod liveness;
pub mod process;
pub mod starter;
mod world;
