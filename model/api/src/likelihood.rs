//! Log-likelihoods of answers given their prompts: the query, the estimator and the result.

use serde::{Deserialize, Serialize};

/// The way in which the log-likelihood of an answer is computed from forward passes over masked views of it.
///
/// A masked-diffusion model has no likelihood in closed form. `Published` and `Reduced` are unbiased estimators of the
/// same number, a lower bound of the log-likelihood (LLaDA, arXiv 2502.09992, equation 6): the mean of (l / m) times
/// the sum of the masked tokens' log-probabilities, over masked counts m uniform in 1..=l and over all sets of m
/// positions. For an answer of one token, all three give the token's log-probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LikelihoodEstimator {
    /// LLaDA's `get_loglikelihood`: batches of views, whose masked counts are evenly spaced from a random start.
    Published {
        /// The number of masked views (`mc_num`); 128 as published.
        samples: usize,
        /// The number of views that share a random start. It divides `samples`. The published class has 32, its
        /// script 8.
        batch: usize,
    },
    /// The same number with less variance. It is exact for a short answer, of which every view is computed. A longer
    /// answer has stratified counts, balanced masks, and a linear model of the answer as an unbiased control variate.
    Reduced {
        /// The most masked views, at least 1.
        samples: usize,
    },
    /// Another number: the log-probability of the answer written from left to right, one token per pass, by the chain
    /// rule. Position i is predicted from the positions before it, with itself and all later positions masked. It is
    /// exact and takes one view per position.
    Chain,
}

impl LikelihoodEstimator {
    /// Returns the published estimator with this many samples, in the largest batches that divide them, at most 32 as
    /// in the published class.
    #[must_use]
    pub fn published(samples: usize) -> Self {
        let batch = (1..=samples.min(32))
            .rev()
            .find(|batch| samples.is_multiple_of(*batch));
        Self::Published {
            samples,
            batch: batch.unwrap_or(1),
        }
    }

    /// Returns the most masked views of an answer of `length` tokens.
    #[must_use]
    pub const fn views(self, length: usize) -> usize {
        match self {
            Self::Published { samples, .. } | Self::Reduced { samples } => samples,
            Self::Chain => length,
        }
    }
}

/// A query for the log-likelihood of an answer given a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodQuery {
    /// The tokens of the prompt, without padding. They are never masked.
    pub prompt: Vec<u32>,
    /// The tokens of the answer, which follow the prompt directly and end the sequence.
    pub answer: Vec<u32>,
    /// The estimator.
    pub estimator: LikelihoodEstimator,
    /// The classifier-free guidance scale w: logits are `u + (w + 1)(c - u)`, where u has every prompt token masked. 0
    /// is off.
    #[serde(default)]
    pub guidance: f32,
    /// The seed of the masks. The same seed gives the same masks, whatever else is in the request (law L8).
    pub seed: u64,
}

/// The log-likelihood of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLikelihood {
    /// The value in nats. A number that is not finite is null in JSON, which is read as NaN.
    #[serde(deserialize_with = "crate::number::one")]
    pub value: f64,
    /// The standard error of the value. It is 0 if the value is exact, and absent if it cannot be estimated (one
    /// sample).
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// The number of rows that were computed. A view that was drawn several times is computed once, or twice with
    /// guidance.
    pub forwards: usize,
}
