//! How a checkpoint is loaded: what for, and what is put on it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::frozen_base::{BaseDtype, FrozenBase};

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

/// The linear layers of a block by their published names: what an adapter may be put on.
pub const LINEAR_LAYERS: [&str; 7] = [
    "q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out",
];

/// A low-rank adapter (arXiv 2106.09685): beside a layer's `x Wᵀ` stands `scale · x Aᵀ Bᵀ`, of which A and B alone are
/// trained. B begins as zero, so that the adapted model begins as the base.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of A and columns of B.
    #[schemars(range(min = 1, max = crate::limits::RANK.most))]
    pub rank: usize,
    /// The scale is this by the rank.
    pub alpha: f64,
    /// The scale is by the root of the rank instead (rsLoRA, arXiv 2312.03732).
    pub rank_stabilized: bool,
    /// Probability that an input of A is dropped in a training step; never in sampling, scoring or a policy step.
    #[schemars(range(min = 0.0, max = 0.999))]
    pub dropout: f64,
    /// Which layers of every block: of [`LINEAR_LAYERS`].
    pub target_modules: Vec<String>,
    /// The seed of A.
    pub seed: u64,
    /// What the frozen weights of the blocks' linear layers are kept in, dequantised for each product: `auto` (as the engine
    /// computes), `bf16`, `int8`, `nf4` (QLoRA). Checkpoints tell it, and whatever loads them computes with the same.
    pub base: BaseDtype,
    /// Whether the constants of `nf4` are quantised too (QLoRA's double quantisation): 4.13 bits a weight in place of 4.5.
    pub double_quantization: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            rank_stabilized: false,
            dropout: 0.0,
            target_modules: LINEAR_LAYERS.map(str::to_owned).to_vec(),
            seed: 0,
            base: BaseDtype::Auto,
            double_quantization: false,
        }
    }
}

impl LoraConfig {
    /// How the base beside it is kept.
    #[must_use]
    pub fn frozen_base(&self) -> FrozenBase {
        FrozenBase {
            dtype: self.base,
            double_quantization: self.double_quantization,
        }
    }

    /// What the product of B and A is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.rank.max(1) as f64;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// A text model that is given picture codes (`mmada.md` 1.3): rows are added to embedding and head, each the mean of those
/// that are there and a little noise.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// How many picture codes; the first one's token is the tokenizer's length.
    #[schemars(range(min = 1, max = crate::limits::CODEBOOK.most))]
    pub codebook_size: usize,
    /// The seed of the noise.
    pub seed: u64,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            codebook_size: 8192,
            seed: 0,
        }
    }
}

/// How a checkpoint is loaded; absent fields are what a run needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// What the weights are for.
    pub purpose: Purpose,
    /// Picture codes for a text model that has none.
    pub grow: Option<Growth>,
    /// A fresh adapter: it is trained, the base stays as it is.
    pub lora: Option<LoraConfig>,
    /// A folder with an adapter in PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`).
    pub adapter: Option<PathBuf>,
    /// Adds the adapter's product to the weights and drops it, so that what is saved is a model of its own.
    pub merge: bool,
}

impl LoadOptions {
    /// For sampling, scoring and comparing.
    #[must_use]
    pub fn sampling() -> Self {
        Self {
            purpose: Purpose::Sample,
            ..Self::default()
        }
    }
}
