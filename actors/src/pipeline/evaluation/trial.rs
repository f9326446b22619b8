//! How a suite is run: items, samplers, noise, and who judges.

use std::sync::Arc;

use demask_api::{LikelihoodEstimator, PictureSize};
use demask_datasets::example::Mode;

use super::detector::Detector;
use super::judge_model::JudgeModel;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::external_rewards::ExternalRewards;
use crate::pipeline::reward_networks::Networks;

/// Judges that are no part of the program.
#[derive(Clone, Debug, Default)]
pub struct Judges {
    /// A judge model.
    pub model: Option<Arc<JudgeModel>>,
    /// A detector of things in drawings.
    pub detector: Option<Arc<Detector>>,
}

/// How log-likelihoods are worked out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LikelihoodWay {
    /// LLaDA's draws, as many as the protocol says.
    #[default]
    Published,
    /// The same value in expectation and the same standard error by a fifth of the draws.
    Reduced,
    /// The chain rule from left to right: another number, exact, a forward pass a token.
    Chain,
}

impl LikelihoodWay {
    /// What it is called beside a protocol; nothing where it is the protocol's own.
    pub(super) const fn named(self) -> Option<&'static str> {
        match self {
            Self::Published => None,
            Self::Reduced => Some("reduced"),
            Self::Chain => Some("chain"),
        }
    }

    /// The estimator where a protocol says so many samples.
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

/// How many times fewer draws reach the published standard error by [`LikelihoodWay::Reduced`]: 24 for 128 were measured
/// (`tests/benches/LOG.md`).
const FEWER: usize = 5;

/// How a suite is run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// At most this many items.
    pub limit: Option<usize>,
    /// Samples of each item, at least one, each with noise of its own.
    pub samples: usize,
    /// With reasoning or without.
    pub mode: Mode,
    /// The samplers.
    pub samplers: SamplerSettings,
    /// Their seed.
    pub seed: u64,
    /// Reward networks that are asked about drawings, beside the judge.
    pub networks: Option<Networks>,
    /// External rewards, for suites that are scored by one.
    pub external: Option<ExternalRewards>,
    /// Judges that are no part of the program.
    pub judges: Judges,
    /// The size of pictures that are asked about, where the inference has none.
    pub size: Option<PictureSize>,
    /// Whether a prompt that is too long loses its beginning instead of not being asked: for rows that measure nothing.
    pub cuts: bool,
    /// How log-likelihoods are worked out, where not as published.
    pub likelihood: LikelihoodWay,
    /// The k-th of n parts of the items alone.
    pub shard: Option<(usize, usize)>,
    /// Items that are asked for together: [`BATCH`](super::evaluator::BATCH), or fewer where each is to be kept soon after. No result depends on it.
    pub batch: usize,
}
