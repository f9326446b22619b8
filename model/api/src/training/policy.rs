//! How to learn from scored groups: UniGRPO and what shares its interface (`peers.md` B.11, B.22).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::sequence::Sequence;
use crate::training::step_settings::LossNormalization;

/// One completion of a prompt and how much better than its group it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySample {
    /// Prompt and completion.
    pub sequence: Sequence,
    /// Group-relative advantage.
    pub advantage: f32,
    /// For each answer position, the denoising step that committed it (trajectory estimators need it).
    pub commit_step: Vec<u16>,
}

/// The completions of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyGroup {
    /// The group's id in the store.
    pub id: String,
    /// The samples.
    pub samples: Vec<PolicySample>,
}

/// Where the mask ratios of the inner steps lie after the first, which is drawn uniformly (`peers.md` B.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Algorithm 1: evenly from the start up to T.
    ToEnd,
    /// The example of section 5.2: T / mu apart, modulo T; every start is a rotated stratified sample.
    #[default]
    Cyclic,
}

/// Which masked views of a completion stand for its log-likelihood.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EstimatorConfig {
    /// UniGRPO's structured noising: prompt clean, answer masked at a ratio an inner step.
    UniGrpo {
        /// How the ratios are spaced.
        spacing: Spacing,
    },
    /// d1's: the whole answer masked, prompt tokens masked with a small probability (`peers.md` B.12).
    DiffuGrpo {
        /// Probability that a prompt token is masked.
        #[schemars(range(min = 0.0, max = 1.0))]
        prompt_mask: f64,
    },
    /// A pair of complementary masks, each answer token seen masked once, as dLLM-RL has it: DiffuCoder's (`peers.md` B.13) without
    /// its third view, which masks all, and without the weights of the pair.
    Coupled,
    /// TraceRL's: what the sampler saw when it committed a token, some steps of its trajectory together (`peers.md` B.14).
    TraceRl {
        /// Steps of the sampler that count as one.
        #[schemars(range(min = 1, max = 65535))]
        merge: u16,
        /// Views an inner step, spread over the trajectory; 0 takes all of them.
        views: usize,
    },
}

impl Default for EstimatorConfig {
    fn default() -> Self {
        Self::UniGrpo {
            spacing: Spacing::Cyclic,
        }
    }
}

/// The clipped objective with a penalty on leaving the reference (`mmada.md` 5.2).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Clip range of the token ratio.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub clip: f64,
    /// Weight of the k3 KL estimate to the reference.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub kl: f64,
    /// Inner steps on one batch of groups, mu.
    #[schemars(range(min = 1, max = 1000))]
    pub inner_steps: usize,
    /// Whose mean the objective is: of a sample's counted tokens and then of samples (the paper's), or of all tokens alike
    /// (DAPO, arXiv 2503.14476), by which long answers weigh more than short ones.
    pub normalization: LossNormalization,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            clip: 0.2,
            kl: 0.01,
            inner_steps: 4,
            normalization: LossNormalization::Sequence,
        }
    }
}
