//! The stages of a run: the state of a life, and the step of each kind of stage, one kind per file.
//!
//! Not here: when a step is done (`driver`), and what is stored of it on disk (`checkpoints`).

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
