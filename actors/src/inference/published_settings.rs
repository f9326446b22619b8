//! Defaults for a published folder that does not state its lengths or samplers, taken from the published scripts
//! (`mmada.md` 6.2, 6.3).

use std::path::Path;

use demask_api::{ImageSampler, TextSampler};
use demask_datasets::prompts::published::Facts;
use demask_datasets::prompts::sequences::Budgets;
use demask_datasets::prompts::text_tokenizer::Family;

use crate::inference::error::WorkError;
use crate::inference::settings::SamplerSettings;

/// Tokens of an answer.
pub const ANSWER: usize = 512;
/// Codes of a picture: 32 per side, which is 512 pixels with the published image tokenizer. `num_vq_tokens` in the
/// published configurations is not reliable.
pub const CODES: usize = 1024;
/// A shorter answer is a multiple of this, so that it can be cut into blocks.
const WHOLE: usize = 32;
/// Sequence length for a configuration that states none.
const LONGEST: usize = 4096;

/// Returns the published samplers. Text takes 256 steps in blocks of 128, greedily, as in the published scripts for
/// questions and benchmarks. Pictures take 15 steps with guidance 3.5.
#[must_use]
pub fn samplers() -> SamplerSettings {
    SamplerSettings {
        text: TextSampler {
            steps: 256,
            block: 128,
            ..TextSampler::default()
        },
        image: ImageSampler {
            steps: 15,
            guidance: 3.5,
            ..ImageSampler::default()
        },
    }
}

/// Returns the budgets of a published folder, with `codes` codes per picture for a model that has pictures.
///
/// # Errors
/// An error if `config.json` is missing or broken.
pub fn budgets(dir: &Path, codes: usize) -> Result<Budgets, WorkError> {
    match Facts::read(dir)?.family() {
        Family::Mmada => with_pictures(dir, codes),
        Family::Llada | Family::Tabletop => with_pictures(dir, 0),
    }
}

/// Returns the budgets as [`budgets`] does, with pictures whatever the model's family.
///
/// # Errors
/// As [`budgets`].
pub fn with_pictures(dir: &Path, codes: usize) -> Result<Budgets, WorkError> {
    let longest = Facts::read(dir)?.max_sequence_length.unwrap_or(LONGEST);
    let half = (longest / 2 / WHOLE * WHOLE).max(1);
    Ok(Budgets::published(longest, ANSWER.min(half), codes))
}
