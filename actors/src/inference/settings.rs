//! The sampler settings of a completion, and the adaptation of a text sampler to the length of an answer.

use demask_api::{ImageSampler, TextSampler};
use serde::{Deserialize, Serialize};

/// The samplers of a completion: `sampling.json` of a checkpoint, `sampling` of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerSettings {
    /// Text sampler. `steps` 0 means one step per token, `block` 0 means one block for the whole answer.
    pub text: TextSampler,
    /// Image sampler.
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

/// Adapts a text sampler to a target of this length: no block is longer, and the number of steps is a multiple of the
/// number of blocks.
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
