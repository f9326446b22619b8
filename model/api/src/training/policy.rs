//! The samples and the objective of a policy step on scored groups: UniGRPO and the estimators that share its interface
//! (`peers.md` B.11, B.22).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::sequence::Sequence;
use crate::training::step_settings::LossNormalization;

/// One completion of a prompt, with its advantage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySample {
    /// The prompt and the completion.
    pub sequence: Sequence,
    /// The group-relative advantage.
    pub advantage: f32,
    /// For each answer position, the denoising step that committed it. Estimators that follow the trajectory need it.
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

/// The clipped objective with a penalty on the divergence from the reference (`mmada.md` 5.2).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Clip range of the token ratio.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub clip: f64,
    /// Weight of the k3 estimate of the KL to the reference.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub kl: f64,
    /// Number of inner steps on one batch of groups, mu.
    #[schemars(range(min = 1, max = 1000))]
    pub inner_steps: usize,
    /// Cap of a token's importance weight when older weights drew the samples (AReaL, arXiv 2505.24298). The weight is
    /// the probability of the token under the weights at the start of the step, divided by that under the older
    /// weights.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub behaviour_cap: f64,
    /// The mean in the objective: over the counted tokens of a sample and then over samples, as in the paper, or over
    /// all tokens alike (DAPO, arXiv 2503.14476). With the latter, long answers weigh more than short ones.
    pub normalization: LossNormalization,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            clip: 0.2,
            kl: 0.01,
            inner_steps: 4,
            behaviour_cap: 5.0,
            normalization: LossNormalization::Sequence,
        }
    }
}
