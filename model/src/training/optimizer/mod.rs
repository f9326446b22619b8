//! Optimizers: `adamw.rs` keeps the state and takes steps; `update.rs` updates the numbers; `moments.rs`
//! stores the moments; `clip.rs` has the gradient norm; `average.rs` the moving average; `muon.rs` Muon's
//! update of the blocks' matrices.
//!
//! Not here: the learning rate, which comes with each step's settings.

pub mod adamw;
mod average;
mod clip;
mod moments;
pub mod muon;
mod update;

pub(crate) use adamw::SECOND;
pub use adamw::{AdamW, Snapshot, Stepped};
