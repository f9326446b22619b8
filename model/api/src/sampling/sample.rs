//! A request for a sample, and the finished sample.

use serde::{Deserialize, Serialize};

use super::image_sampler::ImageSampler;
use super::text_sampler::TextSampler;
use crate::data::grid::Grid;
use crate::data::picture::Picture;
use crate::data::sequence::Span;

/// The sampler that fills a target, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// The block sampler for text.
    Text(TextSampler),
    /// The parallel sampler for picture codes.
    Image(ImageSampler),
}

/// A request to complete one sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRequest {
    /// An id that the client chooses. It is returned with the sample and its frames.
    pub id: u64,
    /// The token ids of the whole sequence: the prompt and mask tokens.
    pub ids: Vec<u32>,
    /// The number of leading positions that are padding, which is never attended to.
    pub left_pad: usize,
    /// The positions to fill. Mask tokens elsewhere stay.
    pub target: Span,
    /// The sampler that fills the target.
    pub sampler: Sampler,
    /// For pictures, the grid of the target's codes, as many as it has positions. If absent, it is square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
    /// For guidance, the whole unconditional sequence, of the same length. If absent, a text has its prompt masked.
    pub unconditional: Option<Vec<u32>>,
    /// The number of leading positions of `unconditional` that are padding.
    #[serde(default)]
    pub unconditional_left_pad: usize,
    /// The seed of the noise. The same seed gives the same sample, whatever else is in the batch (law L8).
    pub seed: u64,
    /// Whether to send a frame after each step.
    #[serde(default)]
    pub watch: bool,
}

/// A finished sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The id of the request.
    pub id: u64,
    /// The token ids of the whole sequence, with the target filled.
    pub ids: Vec<u32>,
    /// For each target position, the step at which its final token was committed.
    pub commit_step: Vec<u16>,
    /// For each target position, the model's probability of the token when it was committed.
    pub confidence: Vec<f32>,
    /// The number of forward passes that this sample took part in.
    pub forwards: usize,
    /// The decoded picture, if the sampler was `Image` and the engine has an image tokenizer.
    pub picture: Option<Picture>,
}
