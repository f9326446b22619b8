//! The settings of the text sampler: semi-autoregressive blocks (`mmada.md` 6.1), and options beyond the plain loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampling::quirks::Quirks;

/// The rank of the drawn tokens at a step of the text sampler, by which they are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remasking {
    /// The most probable tokens first (LLaDA's `low_confidence`).
    #[default]
    LowConfidence,
    /// A random order.
    Random,
    /// The tokens with the largest lead over the next best token first (`mmada.md` 6.5, `margin_confidence`).
    Margin,
    /// The tokens whose distribution has the lowest entropy first (`mmada.md` 6.5, `neg_entropy`).
    Entropy,
}

/// The rule for how many of the ranked tokens a step of the text sampler commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Commit {
    /// The same number at each step, so that a block takes its share of `steps` (`mmada.md` 6.1).
    #[default]
    Schedule,
    /// All tokens with at least this probability, and always the first-ranked one; `steps` is not used (Fast-dLLM,
    /// `peers.md` B.1).
    Threshold {
        /// The least probability, 0 to 1; 0.9 as published.
        threshold: f64,
    },
    /// The r-th ranked token as long as its probability is at least `1 - factor / (r + 1)`, and always the first-ranked
    /// one (Fast-dLLM, `peers.md` B.1).
    Factor {
        /// The factor; 1 as published. 0 commits one token per step.
        factor: f64,
    },
    /// All tokens with at least probability `high`, the first-ranked token of each run of masked positions if it has at
    /// least `low`, and always the first-ranked one of all (dInfer, `peers.md` B.3).
    Hierarchical {
        /// Probability from which on every token is committed.
        high: f64,
        /// Probability from which on the first-ranked token of a run is committed.
        low: f64,
    },
}

/// The keys and values that the text sampler keeps of a row between its passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "keep", rename_all = "snake_case")]
pub enum TextCache {
    /// None: every pass computes the whole row. This is exact.
    #[default]
    None,
    /// Those of all positions before the active block, from the block's first pass (Fast-dLLM's prefix cache). It is
    /// exact at a block's first pass; at later passes the prefix does not see the tokens that were committed since.
    Prefix,
    /// Those of the whole row, so that passes between refreshes compute the active block only (Fast-dLLM's dual cache).
    /// It is exact at a refresh; between refreshes the other positions do not see the tokens that were committed since.
    Dual {
        /// Number of blocks between two refreshes, which are passes over the whole row at the first pass of a block; 1
        /// as published. The first pass of a block without a refresh also computes the previous block, whose last
        /// tokens are not in the cache yet.
        #[serde(default = "one")]
        refresh: usize,
        /// Number of positions on either side of the active block that each pass also computes (dInfer's vicinity
        /// refresh, with 16); 0 as in Fast-dLLM.
        #[serde(default)]
        vicinity: usize,
    },
}

fn one() -> usize {
    1
}

/// Credit for tokens that earlier steps guessed (dInfer's credit decoding, `peers.md` B.3). At each step, the credits
/// of every masked position decay, its current guess earns `p ^ power`, and logits are raised by
/// `weight * ln(1 + credit)`.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credit {
    /// Weight of the credit in the logits.
    pub weight: f64,
    /// Share of a credit that is left after a step.
    pub decay: f64,
    /// Exponent by which a probability becomes credit.
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

/// The condition on which a text ends before its last block. The rest is then filled with end-of-text.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(tag = "when", rename_all = "snake_case")]
pub enum End {
    /// When a whole block is end-of-text.
    #[default]
    Block,
    /// When an end-of-text token is committed with no mask before it and at least this probability (`peers.md` B.9).
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
    /// Number of denoising steps over the whole target, divided evenly among the blocks. Only [`Commit::Schedule`] uses
    /// it.
    pub steps: usize,
    /// Block length in tokens. Blocks are filled from left to right, and the last may be shorter (the published code
    /// requires a multiple).
    pub block: usize,
    /// Gumbel temperature; 0 is greedy.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f64,
    /// Rank by which drawn tokens are committed.
    pub remasking: Remasking,
    /// Rule for how many tokens a step commits.
    pub commit: Commit,
    /// Keys and values that are kept between passes.
    pub cache: TextCache,
    /// Number of positions after the active block that the network sees (dLLM-RL's `further_horizon`, `mmada.md` 6.5);
    /// absent means all, as published. A model that was trained on short answers does not know long rows of masks, and
    /// positions beyond the horizon are not computed. The tokens after the target are hidden too, so it does not suit
    /// reasoning that a picture follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub horizon: Option<usize>,
    /// Credit for tokens that are guessed repeatedly; absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<Credit>,
    /// Condition on which a text ends early.
    pub end: End,
    /// Classifier-free guidance scale w: `u + (w + 1)(c - u)`; 0 is off.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Switches for the behaviour of the published code.
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
