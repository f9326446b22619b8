//! The settings of one optimizer step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The constants of AdamW.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first moment.
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta2: f64,
    /// Epsilon that is added to the root of the second moment.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub eps: f64,
    /// Decoupled weight decay, applied to every parameter as published.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub weight_decay: f64,
    /// Use Muon for the matrices of the transformer blocks (arXiv 2502.16982). Their update is the orthogonalised
    /// momentum, scaled to the size of Adam's update. All other parameters use Adam.
    #[serde(default)]
    pub muon: bool,
    /// Dtype of the moments: `f32`, or `bf16` for half the memory. In bf16 each number is off by up to 0.8 %, with
    /// unbiased rounding.
    #[serde(default)]
    pub moments: MomentKind,
    /// Whether moments and moving average stay in host memory and are copied to the GPU piece by piece for the update
    /// (as in ZeRO-Offload, arXiv 2101.06840). This saves 8 bytes of GPU memory per trained weight, 12 with a moving
    /// average, and costs two transfers per step. No effect on a CPU.
    #[serde(default)]
    pub offload: bool,
}

/// The dtype of an optimizer's moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentKind {
    /// Four bytes per number.
    #[default]
    F32,
    /// Two bytes per number.
    Bf16,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            muon: false,
            moments: MomentKind::F32,
            offload: false,
        }
    }
}

/// The normalisation of a text answer's loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossNormalization {
    /// The mean over the tokens of each answer, then over the answers, as published (`mmada.md` 3.3). A token of a long
    /// reasoning trace then weighs less than one of a short answer.
    #[default]
    Sequence,
    /// The mean over the tokens of all answers of the task, so that every token weighs the same (as in DAPO, arXiv
    /// 2503.14476).
    Token,
}

/// The noising of text answers block by block (blockwise SFT, arXiv 2508.19529). One block is partly masked, the blocks
/// before it are clean, and those after it are masked but do not count in the loss, as in semi-autoregressive sampling.
/// The loss is still a bound on a likelihood: that of the answer written block by block.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockNoise {
    /// Share of the text answers that are noised block by block. The others are masked anywhere, as published.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Block length in tokens.
    #[schemars(range(min = 1, max = 65536))]
    pub length: usize,
}

impl Default for BlockNoise {
    fn default() -> Self {
        Self {
            share: 0.0,
            length: 4,
        }
    }
}

/// Activation checkpointing: whether the backward pass computes the activations of each block again (arXiv 1604.06174).
/// Only the inputs of the blocks are then kept, which takes about a third more time for a fraction of the memory. On a
/// CPU a step has the same bits either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Recompute if the activations would not fit into the free memory.
    #[default]
    Auto,
    /// Recompute in every step.
    Always,
    /// Never recompute.
    Never,
}

/// What is divided among several processes that train together. The result of a run has the same bits either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shard {
    /// Moments, moving average and gradients are divided; each process has all weights (ZeRO 2, `SHARD_GRAD_OP`).
    #[default]
    State,
    /// The weights are divided too (ZeRO 3, `FULL_SHARD`): the weights of a block are gathered when the block is
    /// computed, and activations are recomputed in the backward pass. With n processes each needs an n-th of the
    /// memory, at the cost of more communication.
    Weights,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::State => "state",
            Self::Weights => "weights",
        })
    }
}

/// The settings of one optimizer step. The trainer sets them for each step, so that steering takes effect at an exact
/// step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSettings {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The norm to which the gradient is clipped; 0 turns clipping off.
    pub clip_norm: f64,
    /// The constants of the optimizer.
    pub adam: Adam,
    /// The weight of each task's loss (text-to-image, text, understanding, think-then-draw).
    pub task_weights: [f64; 4],
    /// The normalisation of a text answer's loss.
    #[serde(default)]
    pub loss_normalization: LossNormalization,
    /// The noising of text answers block by block.
    #[serde(default)]
    pub block_noise: BlockNoise,
    /// The seed of the noise. With the same seed, weights and batch, the step is the same bit for bit (law L8).
    pub seed: u64,
    /// The decay of the moving average of the weights; 0 keeps none.
    #[serde(default)]
    pub ema: f64,
    /// Whether the backward pass computes activations again.
    #[serde(default)]
    pub recompute: Recompute,
}
