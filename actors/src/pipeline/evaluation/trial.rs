//! The settings of an evaluation: items, samplers, seed and judges.

use std::sync::Arc;

use demask_api::{LikelihoodEstimator, PictureSize};
use demask_datasets::example::Mode;

use super::detector::Detector;
use super::judge_model::JudgeModel;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::external_rewards::ExternalRewards;
use crate::pipeline::reward_networks::Networks;

/// The external judges.
#[derive(Clone, Debug, Default)]
pub struct Judges {
    /// A judge model.
    pub model: Option<Arc<JudgeModel>>,
    /// A detector of objects in drawings.
    pub detector: Option<Arc<Detector>>,
}

/// The estimator of log-likelihoods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LikelihoodWay {
    /// LLaDA's Monte-Carlo estimate, with as many draws as the protocol says.
    #[default]
    Published,
    /// An estimate with the same expectation and the same standard error from a fifth of the draws.
    Reduced,
    /// The chain rule from left to right. Its value is another one, exact, with one forward pass per token.
    Chain,
}

impl LikelihoodWay {
    /// Returns the name to print beside a protocol; `None` if the estimator is the protocol's own.
    pub(super) const fn named(self) -> Option<&'static str> {
        match self {
            Self::Published => None,
            Self::Reduced => Some("reduced"),
            Self::Chain => Some("chain"),
        }
    }

    /// Returns the estimator, for a protocol with this many samples.
    pub(super) fn estimator(self, samples: usize) -> LikelihoodEstimator {
        match self {
            Self::Published => LikelihoodEstimator::published(samples),
            Self::Reduced => LikelihoodEstimator::Reduced {
                samples: samples.div_ceil(FEWER),
            },
            Self::Chain => LikelihoodEstimator::Chain,
        }
    }
}

/// Factor by which [`LikelihoodWay::Reduced`] needs fewer draws for the published standard error. Measured: 24 draws in
/// place of 128 (`tests/benches/LOG.md`).
const FEWER: usize = 5;

/// The settings of an evaluation.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Most items.
    pub limit: Option<usize>,
    /// Samples of each item, at least one, each with noise of its own.
    pub samples: usize,
    /// Whether to reason before the answer.
    pub mode: Mode,
    /// Settings of the samplers.
    pub samplers: SamplerSettings,
    /// Seed of the samplers.
    pub seed: u64,
    /// Reward networks that score drawings, beside the judge.
    pub networks: Option<Networks>,
    /// External rewards, for suites that are scored by one.
    pub external: Option<ExternalRewards>,
    /// External judges.
    pub judges: Judges,
    /// Size of the pictures in prompts, where the inference has none.
    pub size: Option<PictureSize>,
    /// Whether a prompt that is too long loses its beginning instead of not being asked: for rows that measure nothing.
    pub cuts: bool,
    /// Estimator of log-likelihoods, where it is not the published one.
    pub likelihood: LikelihoodWay,
    /// Evaluate only the k-th of n parts of the items: (k, n).
    pub shard: Option<(usize, usize)>,
    /// Items per request: [`BATCH`](super::evaluator::BATCH), or fewer if each is to be stored soon. No result depends
    /// on it.
    pub batch: usize,
}
