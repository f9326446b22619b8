//! The basis of every actor: supervision, addresses that outlive a restart, the flight recorder, the single writer of
//! the store, work that waits for the disk, the log, seeds, ids, HTTP helpers, and the watchdog of the event loop.
//!
//! Not here: the actors of a run (`pipeline`, `run`) and engine processes (`engine`).

pub mod actor;
pub mod address;
pub mod disk;
pub mod fault_injection;
pub(crate) mod http;
pub mod ids;
pub mod log;
pub mod loop_watch;
pub mod probe;
pub mod recorder;
pub mod seeds;
pub mod supervisor;
