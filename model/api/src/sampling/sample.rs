//! A sequence to complete, and the finished sample.

use serde::{Deserialize, Serialize};

use super::image_sampler::ImageSampler;
use super::text_sampler::TextSampler;
use crate::data::grid::Grid;
use crate::data::picture::Picture;
use crate::data::sequence::Span;

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
    /// The sampler that fills it.
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
