//! How to fill masks in: the samplers' settings, a request, a finished sample.

use serde::{Deserialize, Serialize};

use crate::picture::Picture;
use crate::quirks::Quirks;
use crate::sequence::Span;

/// Which of the freshly drawn tokens are kept at a step of the text sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remasking {
    /// The most confident ones stay (LLaDA's `low_confidence`).
    #[default]
    LowConfidence,
    /// Random ones stay.
    Random,
}

/// The semi-autoregressive block sampler for text (`mmada.md` 6.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextSampler {
    /// Denoising steps over the whole target; divided evenly among the blocks.
    pub steps: usize,
    /// Block length in tokens; blocks are filled from left to right.
    pub block: usize,
    /// Gumbel temperature; 0 is greedy.
    pub temperature: f64,
    /// Which tokens stay.
    pub remasking: Remasking,
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

/// MaskGIT's parallel sampler for pictures (`mmada.md` 6.2).
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
