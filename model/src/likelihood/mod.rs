//! How likely an answer is after its prompt: a masked-diffusion model's log-likelihoods, from masked views of the answer.
//!
//! - `answer_mask.rs`, `design.rs`: a masked view of an answer; all of them, and how their log-probabilities become one number
//!   with its standard error;
//! - `published.rs`: LLaDA's draws; `reduced.rs`, `replicates.rs`, `surrogate.rs`: the same number with less variance;
//! - `exact.rs`: all views, and the chain rule;
//! - `scoring.rs`: many answers, batched; `view_pass.rs`: their rows through the network; `validation.rs`: what a query must be.
//!
//! Nothing is kept between two views of an answer: attention is bidirectional, so a prompt's keys and values depend on which
//! tokens of the answer are masked, and a prompt computed once for all views would be another model's. (The sampler's caches
//! accept that error; a likelihood that is compared with published ones must not.)
//!
//! Not here: which answers are compared and what their likelihoods mean, which is `demask-rewards`'.

mod answer_mask;
pub mod design;
mod exact;
pub mod published;
mod reduced;
mod replicates;
pub mod scoring;
mod surrogate;
mod validation;
mod view_pass;

use demask_api::{LikelihoodEstimator, LikelihoodQuery};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

pub use answer_mask::AnswerMask;
pub use design::ViewDesign;
pub use scoring::{Company, log_likelihoods};

/// The masked views of an answer of `length` tokens, at least one. The same seed gives the same ones.
#[must_use]
pub fn design(estimator: LikelihoodEstimator, length: usize, seed: u64) -> ViewDesign {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    match estimator {
        LikelihoodEstimator::Chain => exact::chain(length),
        _ if length == 1 => exact::every_view(1),
        LikelihoodEstimator::Published { samples, batch } => {
            published::design(length, samples, batch, &mut rng)
        }
        LikelihoodEstimator::Reduced { samples } => reduced::design(length, samples, &mut rng),
    }
}

/// The masked views of a query's answer.
fn design_of(query: &LikelihoodQuery) -> ViewDesign {
    design(query.estimator, query.answer.len(), query.seed)
}
