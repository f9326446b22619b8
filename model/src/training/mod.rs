//! Training: which tokens are masked, the loss on them, one optimiser step.
//!
//! - `step.rs`: a step on micro-batches of sequences;
//! - `mask_sampling.rs`: the forward process, which tokens of a sequence are masked; `loss.rs`: the loss at masked positions;
//! - `recompute.rs`: the backward pass block by block, where activations are not kept;
//! - `threads.rs`: a batch in parts, a thread each; `interlude.rs`: what may be done between two micro-batches;
//! - `ranks.rs`: a step that several processes do together; `sweep.rs`, `weight_traffic.rs`: over weights of which each keeps a part;
//! - `optimizer/`: AdamW, and Muon for the blocks' matrices;
//! - `validation.rs`: what a sequence and the settings of a step must be.
//!
//! Not here: steps on scored groups (`policy`), the image tokenizer's step (`image_tokenizer/training.rs`), the learning
//! rate's schedule and everything that decides what to train on (the actors).

pub mod interlude;
pub mod loss;
pub mod mask_sampling;
pub mod optimizer;
pub mod ranks;
pub mod recompute;
pub mod step;
pub(crate) mod sweep;
pub mod threads;
pub mod validation;
mod weight_traffic;

pub use step::{train, train_with};
