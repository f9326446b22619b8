//! The engine from outside: its process, the actor that owns the process, and the link that both offer.
//!
//! Not here: what is asked of an engine (`inference`, `run`), and anything that links libtorch (the `model` crate).

pub mod actor;
pub mod link;
pub mod memory;
pub mod process;
