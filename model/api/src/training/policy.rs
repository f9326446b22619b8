//! How to learn from scored groups: UniGRPO and what shares its interface (`peers.md` B.11, B.22).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::sequence::Sequence;
use crate::training::estimators::EstimatorConfig;
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

/// Which views' log-probabilities are asked of the policy that drew the samples: those that a policy step of the same groups,
/// estimator and seed will ask of the policy that it trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewScores {
    /// The groups; advantages do not matter.
    pub groups: Vec<PolicyGroup>,
    /// What plans the views.
    pub estimator: EstimatorConfig,
    /// Inner steps of the policy step.
    pub inner_steps: usize,
    /// The policy step's seed.
    pub seed: u64,
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
    /// Where older weights drew the samples than those that are trained: the most that a token's loss is multiplied by for having
    /// become likelier since (AReaL, arXiv 2505.24298). Each is multiplied by how much likelier it became, at most this.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub behaviour_cap: f64,
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
            behaviour_cap: 5.0,
            normalization: LossNormalization::Sequence,
        }
    }
}
