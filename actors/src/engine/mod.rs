//! The engine from outside: its process and whether that gets on, the actor that owns it, and the link that both offer.
//!
//! Not here: what is asked of an engine (`inference`, `run`), and anything that links libtorch (the `model` crate).

pub mod actor;
pub mod link;
pub mod liveness;
pub mod memory;
pub mod process;
pub mod starter;
mod world;
