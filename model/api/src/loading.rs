//! How a checkpoint is loaded.

use serde::{Deserialize, Serialize};

/// What loaded weights are for, which says what is kept beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Training: an f32 master, gradients, the optimiser's moments.
    #[default]
    Train,
    /// Sampling and scoring: the weights in the compute dtype and nothing else, so that a model of 16 GB in bf16 takes
    /// 16 GB. Training is refused.
    Sample,
}

/// How a checkpoint is loaded; absent fields are what a run needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// What the weights are for.
    pub purpose: Purpose,
}

impl LoadOptions {
    /// For sampling, scoring and comparing.
    #[must_use]
    pub fn sampling() -> Self {
        Self {
            purpose: Purpose::Sample,
        }
    }
}
