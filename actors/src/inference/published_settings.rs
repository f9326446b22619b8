//! What holds for a published folder that says nothing of it: lengths and samplers as its scripts have them
//! (`mmada.md` 6.2, 6.3).

use std::path::Path;

use demask_api::{ImageSampler, TextSampler};
use demask_datasets::prompts::published::Facts;
use demask_datasets::prompts::sequences::Budgets;
use demask_datasets::prompts::text_tokenizer::Family;

use crate::inference::error::WorkError;
use crate::inference::settings::SamplerSettings;

/// New tokens of an answer.
pub const ANSWER: usize = 512;
/// Picture codes: 32 a side, 512 pixels with the published image tokenizer. `num_vq_tokens` of the published
/// configurations is not to be trusted.
pub const CODES: usize = 1024;
/// What a shorter answer is a multiple of, so that it can be cut into blocks.
const WHOLE: usize = 32;
/// Longest sequence of a configuration that names none.
const LONGEST: usize = 4096;

/// The samplers: text in 256 steps and blocks of 128, greedy as the scripts that answer questions and the benchmarks are;
/// pictures in 15 steps with guidance 3.5.
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

/// The lengths, for so many picture codes.
///
/// # Errors
/// `config.json` is missing or broken.
pub fn budgets(dir: &Path, codes: usize) -> Result<Budgets, WorkError> {
    match Facts::read(dir)?.family() {
        Family::Mmada => with_pictures(dir, codes),
        Family::Llada | Family::Tabletop => with_pictures(dir, 0),
    }
}

/// The same whoever's model it is.
///
/// # Errors
/// As [`budgets`].
pub fn with_pictures(dir: &Path, codes: usize) -> Result<Budgets, WorkError> {
    let longest = Facts::read(dir)?.max_sequence_length.unwrap_or(LONGEST);
    let half = (longest / 2 / WHOLE * WHOLE).max(1);
    Ok(Budgets::published(longest, ANSWER.min(half), codes))
}
