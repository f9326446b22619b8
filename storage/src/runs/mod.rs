//! Queries of runs: resolving a name, the state that a restart needs, the queue, what became of a
//! request.

pub mod find;
pub mod journal;
pub mod queue;
pub mod requested;
