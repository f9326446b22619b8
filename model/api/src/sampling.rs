//! How to fill masks in: the samplers' settings, a request, a finished sample.

use serde::{Deserialize, Serialize};

use crate::grid::Grid;
use crate::picture::Picture;
use crate::quirks::Quirks;
use crate::sequence::Span;

/// Which of the freshly drawn tokens rank first at a step of the text sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextSampler {
    /// Denoising steps over the whole target; divided evenly among the blocks. For [`Commit::Schedule`].
    pub steps: usize,
    /// Block length in tokens; blocks are filled from left to right. The last may be shorter (published code wants a multiple).
    pub block: usize,
    /// Gumbel temperature; 0 is greedy.
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

/// How the share of masked tokens falls with time (`mmada.md` 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSchedule {
    /// cos(pi u / 2), as published.
    #[default]
    Cosine,
    /// 1 - u.
    Linear,
}

/// How the codes of a picture are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMethod {
    /// The most probable of the drawn codes, with noise on the order (MaskGIT, `mmada.md` 6.2).
    #[default]
    #[serde(rename = "maskgit")]
    MaskGit,
    /// Every masked code by itself with the probability that the schedule gives the step: ancestral sampling, whose steps
    /// have exact likelihoods (the "emerge" sampler, `peers.md` B.11).
    Emerge,
}

/// Which codes of a picture a step computes anew, in the manner of Lumina-DiMOO's ML-Cache (`peers.md` B.4): between whole
/// passes those that were just committed and the least sure of the masked ones; every other masked position keeps its last
/// guess, and all other keys and values are as old as the pass that wrote them. An approximation but for the whole passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureCache {
    /// Share of the steps, from the first on, that are whole passes.
    pub warmup: f64,
    /// A whole pass every so many steps after them.
    pub interval: usize,
    /// Share of the masked codes that the other steps compute anew (at least one).
    pub ratio: f64,
}

impl Default for FeatureCache {
    fn default() -> Self {
        Self {
            warmup: 0.3,
            interval: 5,
            ratio: 0.1,
        }
    }
}

/// The parallel sampler for pictures: MaskGIT (`mmada.md` 6.2) or ancestral.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSampler {
    /// Denoising steps.
    pub steps: usize,
    /// Temperature of the Gumbel noise on the confidence; times (1 - progress) at each step.
    pub temperature: f64,
    /// Guidance scale g: `(1 + g) c - g u`; 0 is off.
    pub guidance: f64,
    /// Share of tokens that stay masked.
    pub schedule: MaskSchedule,
    /// How codes are committed.
    pub method: ImageMethod,
    /// MaskGIT also commits every code that is drawn with at least this probability, and is done when none is masked; 0 is
    /// off, as published.
    pub accept: f64,
    /// MaskGIT commits the most probable of the codes that were drawn against the odds (a likelier one stands at their
    /// position) with at least this probability, one a step, before what the schedule says; 0 is off, as published. Where
    /// every place is most likely empty, committing the likeliest says nothing new for many steps; an unlikely code that
    /// has been drawn says where something stands, and the others are sure after it. Codes below it are drawn again.
    pub surprise: f64,
    /// What is computed anew; absent: everything at every step, which is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<FeatureCache>,
    /// Where it does as the published code does.
    #[serde(skip_serializing_if = "Quirks::is_ours")]
    pub quirks: Quirks,
}

impl Default for ImageSampler {
    fn default() -> Self {
        Self {
            steps: 12,
            temperature: 1.0,
            guidance: 2.0,
            schedule: MaskSchedule::Cosine,
            method: ImageMethod::MaskGit,
            accept: 0.0,
            surprise: 0.0,
            cache: None,
            quirks: Quirks::default(),
        }
    }
}

/// Which sampler fills the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Text by blocks.
    Text(TextSampler),
    /// Picture codes by MaskGIT.
    Image(ImageSampler),
}

/// One sequence to complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRequest {
    /// Chosen by the caller, returned with the sample and its frames.
    pub id: u64,
    /// The whole sequence: prompt and mask tokens.
    pub ids: Vec<u32>,
    /// How many leading positions are padding: never attended to.
    pub left_pad: usize,
    /// The positions to fill; masks elsewhere are left as they are.
    pub target: Span,
    /// How.
    pub sampler: Sampler,
    /// Pictures: how the target's codes lie, as many as it has positions; absent: a square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
    /// For guidance: the whole unconditional sequence, same length. Absent: the prompt's tokens are masked (text).
    pub unconditional: Option<Vec<u32>>,
    /// Padding of `unconditional`.
    #[serde(default)]
    pub unconditional_left_pad: usize,
    /// The noise of this sequence; the same seed gives the same sample whatever else is in the batch (law L8).
    pub seed: u64,
    /// Stream each step as a frame.
    #[serde(default)]
    pub watch: bool,
}

/// A finished sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The request's id.
    pub id: u64,
    /// The whole sequence, target filled.
    pub ids: Vec<u32>,
    /// For each target position: the step at which its final token was committed.
    pub commit_step: Vec<u16>,
    /// For each target position: the probability that the model gave to the token when it was committed.
    pub confidence: Vec<f32>,
    /// Forward passes that this sample took part in.
    pub forwards: usize,
    /// The decoded picture, when the sampler was `Image` and the engine has an image tokenizer.
    pub picture: Option<Picture>,
}
