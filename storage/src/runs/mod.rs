//! Queries of runs: resolving a name, the state that a restart needs, the queue.

pub mod find;
pub mod journal;
pub mod queue;
