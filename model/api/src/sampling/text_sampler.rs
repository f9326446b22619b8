//! How text is sampled: semi-autoregressive blocks (`mmada.md` 6.1) and what differs from the plain loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampling::quirks::Quirks;

/// Which of the freshly drawn tokens rank first at a step of the text sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remasking {
    /// The most probable ones (LLaDA's `low_confidence`).
    #[default]
    LowConfidence,
    /// Random ones.
    Random,
    /// Those furthest ahead of the next best token (`mmada.md` 6.5, `margin_confidence`).
    Margin,
    /// Those whose distribution has the lowest entropy (`mmada.md` 6.5, `neg_entropy`).
    Entropy,
}

/// How many of the ranked tokens are committed at a step of the text sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Commit {
    /// The same number at each step, so that a block takes its share of `steps` (`mmada.md` 6.1).
    #[default]
    Schedule,
    /// All that are at least this probable, and always the first; `steps` does not matter (Fast-dLLM, `peers.md` B.1).
    Threshold {
        /// The least probability, 0 to 1; 0.9 as published.
        threshold: f64,
    },
    /// The r-th most probable while its probability is at least `1 - factor / (r + 1)`, and always the first
    /// (Fast-dLLM, `peers.md` B.1).
    Factor {
        /// The factor; 1 as published. 0 commits one token a step.
        factor: f64,
    },
    /// Of each run of masked tokens that stand together the first-ranked if it is at least `low` probable; all that are at
    /// least `high`; and always the first of all (dInfer, `peers.md` B.3).
    Hierarchical {
        /// Probability from which every token is committed.
        high: f64,
        /// Probability from which the first of its run is.
        low: f64,
    },
}

/// What the text sampler keeps of a row between its passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "keep", rename_all = "snake_case")]
pub enum TextCache {
    /// Nothing: every pass computes the whole row. Exact.
    #[default]
    None,
    /// Keys and values of all that stands before the active block, computed at the block's first pass (Fast-dLLM's prefix
    /// cache). Exact at a block's first pass; after it the prefix does not see what the block has become.
    Prefix,
    /// Keys and values of the whole row: passes between refreshes compute the active block alone (Fast-dLLM's dual cache).
    /// Exact at a refresh; between two neither what stands before nor what stands behind sees the block change.
    Dual {
        /// A whole pass at the first pass of every so many blocks; 1 as published. Between them a block's first pass also
        /// computes the block before it, whose last tokens no pass has seen yet.
        #[serde(default = "one")]
        refresh: usize,
        /// Positions on either side of the active block that each pass computes with it (dInfer's vicinity refresh; 16
        /// there); 0 as in Fast-dLLM.
        #[serde(default)]
        vicinity: usize,
    },
}

fn one() -> usize {
    1
}

/// Credit for tokens that were guessed before (dInfer's credit decoding, `peers.md` B.3): each step every masked
/// position's credits fade, its present guess earns `p ^ power`, and logits are raised by `weight * ln(1 + credit)`.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credit {
    /// What the credit counts for.
    pub weight: f64,
    /// What is left of a credit after a step.
    pub decay: f64,
    /// How a probability becomes credit.
    pub power: f64,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            weight: 0.7,
            decay: 0.8,
            power: 0.2,
        }
    }
}

/// When a text is done before all of its blocks are: the rest is filled with end-of-text then.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum End {
    /// When a whole block is end-of-text.
    #[default]
    Block,
    /// When an end-of-text is committed that has no mask before it and was at least this probable (`peers.md` B.9).
    Token {
        /// The least probability.
        threshold: f64,
    },
    /// Never: every block is computed, as published.
    Never,
}

/// The semi-autoregressive block sampler for text (`mmada.md` 6.1).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextSampler {
    /// Denoising steps over the whole target; divided evenly among the blocks. For [`Commit::Schedule`].
    pub steps: usize,
    /// Block length in tokens; blocks are filled from left to right. The last may be shorter (published code wants a multiple).
    pub block: usize,
    /// Gumbel temperature; 0 is greedy.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f64,
    /// Which tokens come first.
    pub remasking: Remasking,
    /// How many are committed at a step.
    pub commit: Commit,
    /// What is kept between passes.
    pub cache: TextCache,
    /// How many positions behind the active block are there at all (dLLM-RL's `further_horizon`, `mmada.md` 6.5); absent:
    /// all, as published. A model that was trained on short answers does not know long rows of masks; and what is not there
    /// is not computed. What stands behind the target is not there either, so not for reasoning that a picture follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon: Option<usize>,
    /// Credit for guesses that last; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<Credit>,
    /// When a text is done early.
    pub end: End,
    /// Classifier-free guidance scale w: `u + (w + 1)(c - u)`; 0 is off.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Where it does as the published code does.
    #[serde(skip_serializing_if = "Quirks::is_ours")]
    pub quirks: Quirks,
}

impl Default for TextSampler {
    fn default() -> Self {
        Self {
            steps: 32,
            block: 16,
            temperature: 0.0,
            remasking: Remasking::LowConfidence,
            commit: Commit::Schedule,
            cache: TextCache::None,
            horizon: None,
            credit: None,
            end: End::Block,
            guidance: 0.0,
            quirks: Quirks::default(),
        }
    }
}
