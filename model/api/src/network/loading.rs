//! The options of loading a checkpoint: the purpose of the weights, an adapter, and new picture codes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::frozen_base::{BaseDtype, FrozenBase};

/// The purpose of loaded weights, which decides what is kept beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Training: an f32 master, gradients, the optimizer's moments.
    #[default]
    Train,
    /// Sampling and scoring: the weights in the compute dtype and nothing else, so that a model of 16 GB in bf16 takes
    /// 16 GB. Training is refused.
    Sample,
}

/// The linear layers of a block, by their published names, that may get an adapter.
pub const LINEAR_LAYERS: [&str; 7] = [
    "q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out",
];

/// A low-rank adapter (arXiv 2106.09685): `scale · x Aᵀ Bᵀ` is added to a layer's `x Wᵀ`, and only A and B are trained.
/// B is initialised to zero, so that the adapted model starts as the base.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank: the number of rows of A and of columns of B.
    #[schemars(range(min = 1, max = crate::limits::RANK.most))]
    pub rank: usize,
    /// Numerator of the scale, which is `alpha / rank`.
    pub alpha: f64,
    /// Whether the scale is `alpha / sqrt(rank)` instead (rsLoRA, arXiv 2312.03732).
    pub rank_stabilized: bool,
    /// Probability that an input of A is dropped in a training step. Sampling, scoring and policy steps have no
    /// dropout.
    #[schemars(range(min = 0.0, max = 0.999))]
    pub dropout: f64,
    /// Linear layers that get an adapter in every block, of `q_proj`, `k_proj`, `v_proj`, `attn_out`, `ff_proj`,
    /// `up_proj` and `ff_out` ([`LINEAR_LAYERS`]).
    pub target_modules: Vec<String>,
    /// Seed of the initial values of A.
    pub seed: u64,
    /// Storage format of the frozen weights of the blocks' linear layers, which are dequantised for each matrix
    /// product: `auto` (the dtype that the engine computes in), `bf16`, `int8`, `nf4` (QLoRA). Checkpoints record it,
    /// so a model that is loaded from one computes with the same weights.
    pub base: BaseDtype,
    /// Whether the constants of `nf4` are quantised too (QLoRA's double quantisation): 4.13 bits per weight instead of
    /// 4.5.
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
    /// Returns how the base weights beside the adapter are stored.
    #[must_use]
    pub fn frozen_base(&self) -> FrozenBase {
        FrozenBase {
            dtype: self.base,
            double_quantization: self.double_quantization,
        }
    }

    /// Returns the factor by which the product of B and A is multiplied.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.rank.max(1) as f64;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// Picture codes that are added to a text model (`mmada.md` 1.3). The embedding and the head get one new row per code:
/// the mean of the existing rows plus a little noise.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// Number of picture codes. The token id of the first one is the length of the text tokenizer.
    #[schemars(range(min = 1, max = crate::limits::CODEBOOK.most))]
    pub codebook_size: usize,
    /// Seed of the noise.
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

/// The options of loading a checkpoint. The defaults are those of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// Purpose of the weights.
    pub purpose: Purpose,
    /// Picture codes for a text model that has none.
    pub grow: Option<Growth>,
    /// A fresh adapter, which is trained while the base stays unchanged.
    pub lora: Option<LoraConfig>,
    /// Folder of an adapter in PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`).
    pub adapter: Option<PathBuf>,
    /// Whether the adapter's product is added to the weights and the adapter dropped, so that a complete model is
    /// saved.
    pub merge: bool,
}

impl LoadOptions {
    /// Returns the options for sampling, scoring and comparing.
    #[must_use]
    pub fn sampling() -> Self {
        Self {
            purpose: Purpose::Sample,
            ..Self::default()
        }
    }
}
