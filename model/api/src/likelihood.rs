//! How likely an answer is after its prompt: what is asked, how it is worked out, what comes back.

use serde::{Deserialize, Serialize};

/// How the log-likelihood of an answer is worked out from forward passes over masked views of it.
///
/// A masked-diffusion model has no likelihood in closed form. `Published` and `Reduced` estimate the same number without bias:
/// the mean over masked counts m = 1..l, each as likely, and over the sets of m positions, of (l / m) times the sum of the masked
/// tokens' log-probabilities (LLaDA, arXiv 2502.09992, equation 6), which is a lower bound of the log-likelihood. For an answer
/// of one token all three are that token's log-probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LikelihoodEstimator {
    /// LLaDA's `get_loglikelihood`: in batches whose masked counts are spread evenly from one random start.
    Published {
        /// Masked views in all (`mc_num`); 128 as published.
        samples: usize,
        /// Views that share a random start; divides `samples`. 32 in the published class, 8 in its script.
        batch: usize,
    },
    /// The same number with less variance: every view of a short answer, and then it is exact; else counts in strata, positions
    /// masked about equally often, and a linear model of the answer that is corrected without bias.
    Reduced {
        /// Masked views at most, at least 1.
        samples: usize,
    },
    /// Another number: the answer's probability when it is written from left to right, one token a pass, by the chain rule.
    /// Position i is predicted with all before it in sight and it and all behind it masked: exact, a view a position.
    Chain,
}

impl LikelihoodEstimator {
    /// The published estimator with so many samples in the largest batches of at most 32, as in the published class.
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

    /// Masked views of an answer of `length` tokens, at most.
    #[must_use]
    pub const fn views(self, length: usize) -> usize {
        match self {
            Self::Published { samples, .. } | Self::Reduced { samples } => samples,
            Self::Chain => length,
        }
    }
}

/// An answer whose log-likelihood after a prompt is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodQuery {
    /// The prompt's tokens, never masked; no padding.
    pub prompt: Vec<u32>,
    /// The answer's tokens, which stand right behind it; nothing follows them.
    pub answer: Vec<u32>,
    /// How it is worked out.
    pub estimator: LikelihoodEstimator,
    /// Classifier-free guidance scale w: logits are `u + (w + 1)(c - u)`, where u has every token of the prompt masked; 0 is off.
    #[serde(default)]
    pub guidance: f32,
    /// The masks' noise; the same seed gives the same masks whatever else is asked for (law L8).
    pub seed: u64,
}

/// The log-likelihood of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLikelihood {
    /// In nats. JSON's null, which is what becomes of a number that is not finite, is read as NaN.
    #[serde(deserialize_with = "crate::number::one")]
    pub value: f64,
    /// The standard error of the value; 0 where it is exact, absent where the views tell nothing of it (one sample).
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// Rows that went through the network: a masked view that was drawn several times is computed once, and twice with guidance.
    pub forwards: usize,
}
