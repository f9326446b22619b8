//! The stages of a run: the state of a life, and the step of each kind of stage, one kind per file.
//!
//! Not here: when a step is done (`driver`), and what is stored of it on disk (`checkpoints`).

mod align;
mod evaluate;
pub mod preview;
mod publication;
mod reason;
mod reports;
mod rollouts;
mod saving;
pub mod state;
mod step;
mod tokenizer;
mod train;
