//! Training: the choice of masked tokens, the loss at them, and one optimizer step.
//!
//! - `step.rs`: a step on micro-batches of sequences;
//! - `mask_sampling.rs`: the forward process, which chooses the masked tokens; `loss.rs`: the loss at masked positions;
//! - `recompute.rs`: the backward pass block by block, with activations computed again instead of kept;
//! - `threads.rs`: a batch in parts, one thread each; `interlude.rs`: other work between two micro-batches;
//! - `gradients.rs`: the gradients of a batch, by threads or by ranks; `ranks/`: a step that several processes compute
//!   together;
//! - `sweep.rs`: groups of rows through a network whose weights come and go;
//! - `optimizer/`: AdamW, and Muon for the matrices of the transformer blocks;
//! - `validation.rs`: the checks of a sequence and of the settings of a step.
//!
//! Not here: steps on scored groups (`policy`), the image tokenizer's step (`image_tokenizer/training.rs`), the
//! schedule of the learning rate, and every decision about what to train on (the actors).

pub mod gradients;
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

pub use step::{train, train_with};
