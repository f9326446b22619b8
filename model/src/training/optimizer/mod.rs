//! Optimisers: `adamw.rs` keeps the moments, clips, decays and averages; `muon.rs` gives the update of the blocks' matrices.
//!
//! Not here: the learning rate, which comes with each step's settings.

pub mod adamw;
pub mod muon;

pub use adamw::{AdamW, Snapshot, Stepped};
