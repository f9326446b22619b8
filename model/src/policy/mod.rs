//! Learning from scored groups: UniGRPO and what shares its interface (`mmada.md` 5.2, `peers.md` B.11, B.22).
//!
//! - `step.rs`: a policy step, `inner_steps` optimiser steps on the same groups;
//! - `views.rs`: the views of all samples, which the estimator plans (`api/src/training/estimators/`), as rows, with their log-probabilities under the old policy and the reference;
//! - `objective.rs`: the clipped ratio, the penalty and their sums;
//! - `validation.rs`: what a policy step must be asked.
//!
//! Where it differs from textbook GRPO (for autoregressive models): a completion's likelihood is estimated on masked views,
//! the same views for the present, the old and the reference policy; the ratio is a token's, not a sequence's; the mean is over
//! the masked tokens of a view.
//!
//! Not here: rewards, advantages and rollouts, which the actors bring.

mod objective;
pub mod step;
mod validation;
mod views;

pub use step::{train, train_with};
pub use views::{score, score_views};
