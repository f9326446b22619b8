//! Optimisers: `adamw.rs` keeps the state and takes steps, `update.rs` is what a step does to the numbers, `moments.rs` how moments are
//! kept, `clip.rs` the gradient's norm, `average.rs` the moving average; `muon.rs` gives the update of the blocks' matrices.
//!
//! Not here: the learning rate, which comes with each step's settings.

pub mod adamw;
mod average;
mod clip;
mod moments;
pub mod muon;
mod update;

pub use adamw::{AdamW, Snapshot, Stepped};
