//! The samplers' settings of a completion, and how a text sampler is made to fit the length of an answer.

use demask_api::{ImageSampler, TextSampler};
use serde::{Deserialize, Serialize};

/// The samplers of a completion: `sampling.json` of a checkpoint, `sampling` of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerSettings {
    /// The text sampler; `steps` 0 means one a token, `block` 0 means the whole answer.
    pub text: TextSampler,
    /// The image sampler.
    pub image: ImageSampler,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            text: TextSampler {
                steps: 0,
                block: 0,
                ..TextSampler::default()
            },
            image: ImageSampler::default(),
        }
    }
}

/// A text sampler's settings made to fit a target: no block is longer, and steps are a multiple of the blocks.
#[must_use]
pub fn fit(sampler: &TextSampler, length: usize) -> TextSampler {
    let block = match sampler.block {
        0 => length,
        block => block.min(length),
    };
    let block = block.max(1);
    let blocks = length.div_ceil(block).max(1);
    let steps = if sampler.steps == 0 { length } else { sampler.steps };
    let steps = (steps.div_ceil(blocks) * blocks).clamp(1, blocks * block);
    TextSampler {
        steps,
        block,
        ..sampler.clone()
    }
}
