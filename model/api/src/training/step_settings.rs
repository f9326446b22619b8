//! What holds for one optimiser step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// AdamW's constants.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first moment.
    #[schemars(range(min = 0.0, max = 0.999_999))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub eps: f64,
    /// Decoupled weight decay, on every parameter as published.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub weight_decay: f64,
    /// Muon for the blocks' matrices (arXiv 2502.16982): their update is the orthogonalised momentum, as large as
    /// Adam's would be; everything else stays with Adam.
    #[serde(default)]
    pub muon: bool,
    /// What moments are kept in: `f32`, or `bf16` for half the memory, each number then off by up to 0.8 %, rounded so that nothing
    /// is lost on average.
    #[serde(default)]
    pub moments: MomentKind,
}

/// What an optimiser keeps its moments in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MomentKind {
    /// Four bytes a number.
    #[default]
    F32,
    /// Two bytes a number.
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
        }
    }
}

/// What a text answer's loss is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossNormalization {
    /// Each answer by its own length, then the mean over the answers, as published (`mmada.md` 3.3). A token of a long
    /// reasoning trace weighs less than one of a short answer.
    #[default]
    Sequence,
    /// All answers of the task by their tokens together: every token weighs the same (as in DAPO, arXiv 2503.14476).
    Token,
}

/// Text answers noised block by block: one block masked in part, those before it clean, those behind it masked and not
/// learnt, as semi-autoregressive sampling sees them (blockwise SFT, arXiv 2508.19529). The loss stays a bound on the
/// likelihood: that of the answer written block after block.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockNoise {
    /// Share of the text answers; the others are masked anywhere, as published.
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

/// Whether the backward pass computes each block's activations again (arXiv 1604.06174), so that of all blocks the inputs alone
/// are kept: about a third more time for a fraction of the memory. On a CPU the step comes to the same bits either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Where the activations would not fit in the memory that is free.
    #[default]
    Auto,
    /// In every step.
    Always,
    /// In none.
    Never,
}

/// What each of several processes that train together keeps alone. A run ends in the same bits either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shard {
    /// Its part of moments, moving average and gradients (ZeRO 2, `SHARD_GRAD_OP`); all weights are with each.
    #[default]
    State,
    /// Its part of the weights too (ZeRO 3, `FULL_SHARD`): a block's are gathered where it is computed with, and blocks are computed
    /// again in the backward pass. Takes an n-th of the memory for n processes, and more traffic.
    Weights,
}

/// What holds for one optimiser step; the trainer decides it anew each time, so that steering is exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSettings {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Largest gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// The optimiser's constants.
    pub adam: Adam,
    /// Weight of each task's loss (text-to-image, text, understanding, think-then-draw).
    pub task_weights: [f64; 4],
    /// What a text answer's loss is divided by.
    #[serde(default)]
    pub loss_normalization: LossNormalization,
    /// Text answers noised block by block.
    #[serde(default)]
    pub block_noise: BlockNoise,
    /// The noise of this step: with the same seed, weights and batch the step is the same, bit for bit (law L8).
    pub seed: u64,
    /// Decay of the moving average of the weights; 0 keeps none.
    #[serde(default)]
    pub ema: f64,
    /// Whether activations are computed again in the backward pass.
    #[serde(default)]
    pub recompute: Recompute,
}
