//! Log-likelihoods of answers given their prompts: a masked-diffusion model's, estimated from masked views of the
//! answer.
//!
//! - `answer_mask.rs`: a masked view of an answer; `design.rs`: all views, and how their log-probabilities become one
//!   number with a standard error;
//! - `published.rs`: LLaDA's estimator; `reduced.rs`, `replicates.rs`, `surrogate.rs`: the same number with less
//!   variance;
//! - `exact.rs`: all views of a short answer, and the chain rule;
//! - `scoring.rs`: many answers in batches; `view_pass.rs`: their forward passes; `validation.rs`: the checks of a
//!   query.
//!
//! No keys or values are reused between two views of an answer. Attention is bidirectional, so the prompt's keys and
//! values depend on which answer tokens are masked, and reusing them would compute a different model. The sampler's
//! caches accept that error; a likelihood that is compared with published ones must not.
//!
//! Not here: which answers are compared and what their likelihoods mean (`demask-rewards`).

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

/// Plans the masked views of an answer of `length` tokens, at least one. The same seed gives the same views.
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

/// Plans the masked views of a query's answer.
fn design_of(query: &LikelihoodQuery) -> ViewDesign {
    design(query.estimator, query.answer.len(), query.seed)
}
