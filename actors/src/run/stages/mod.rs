//! A run's stages: where a life of the run stands, and what a step of each kind of stage does, one kind a file.
//!
//! Not here: when a step is done (`driver`), what is kept of it on disk (`checkpoints`).

mod ahead;
mod align;
mod evaluate;
pub mod preview;
mod reason;
mod reports;
mod rollout_groups;
mod saving;
pub mod state;
mod step;
mod tokenizer;
mod train;
