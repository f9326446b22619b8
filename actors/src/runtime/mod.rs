//! What every actor stands on: supervision, addresses that outlive a death, the flight recorder, the one writer of the
//! store, seeds, answers of servers, the watch over the event loop.
//!
//! Not here: any actor of a run (`pipeline`, `run`), and engine processes (`engine`).

pub mod actor;
pub mod address;
pub mod fault_injection;
pub(crate) mod http;
pub mod ids;
pub mod loop_watch;
pub mod probe;
pub mod recorder;
pub mod seeds;
pub mod supervisor;
