//! Policy optimization on scored groups: UniGRPO and the estimators that share its interface (`mmada.md` 5.2,
//! `peers.md` B.11, B.22).
//!
//! - `step.rs`: a policy step, which takes `inner_steps` optimizer steps on the same groups;
//! - `views.rs`: the masked views of all samples as rows, with their log-probabilities under the old policy and the
//!   reference (the estimators in `api/src/training/estimators/` plan the views);
//! - `objective.rs`: the clipped ratio, the KL penalty and their sums;
//! - `validation.rs`: the checks of a policy step's inputs.
//!
//! Three things differ from textbook GRPO, which is for autoregressive models. The likelihood of a completion is
//! estimated on masked views, and the current, the old and the reference policy score the same views. The ratio is per
//! token, not per sequence. The mean is over the masked tokens of a view.
//!
//! Not here: rewards, advantages and rollouts, which the actors supply.

mod objective;
pub mod step;
mod validation;
mod views;

pub use step::{train, train_with};
pub use views::{score, score_views};
