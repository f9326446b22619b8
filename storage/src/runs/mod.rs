//! Runs, read: which one a person means, what a restart needs of one, which ones wait for their turn.

pub mod find;
pub mod journal;
pub mod queue;
