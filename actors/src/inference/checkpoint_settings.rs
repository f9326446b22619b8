//! The prompts, lengths and samplers of a checkpoint, read from its folder: from Demask's files beside the weights, or
//! from a published folder.

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::checkpoint::{CONFIG, TOKENIZER};
use demask_api::{bounded_file, limits};
use demask_datasets::prompts::published as published_folder;
pub use demask_datasets::prompts::published::BUDGETS;
use demask_datasets::prompts::sequences::{Budgets, MARKS};
use demask_datasets::prompts::style::PromptStyle;
use demask_datasets::prompts::text_tokenizer::Family;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::inference::complete::Inference;
use crate::inference::error::WorkError;
use crate::inference::published_settings;
use crate::inference::settings::SamplerSettings;

/// Name of the file with a checkpoint's prompt style, which exists only if the style is not the default.
pub const PROMPTS: &str = "prompts.json";
/// Name of the file with a checkpoint's samplers.
pub const SAMPLING: &str = "sampling.json";

/// Reads `tokenizer.json` and, if they exist, `budgets.json` and `prompts.json`, or the files of a published folder.
///
/// # Errors
/// An error if a file is missing or broken.
pub fn inference(dir: &Path) -> Result<Inference, WorkError> {
    let is_published = published_folder::is_published(dir);
    let style: PromptStyle = if is_published {
        published_folder::style(dir)?
    } else {
        read_json(dir, PROMPTS)?
    };
    let tokenizer = published_folder::tokenizer(dir, style.family)?;
    let budgets = if is_published {
        published_settings::budgets(dir, published_settings::CODES)?
    } else {
        let budgets: Budgets = read_json(dir, BUDGETS)?;
        budgets
            .check()
            .map_err(|error| broken(&dir.join(BUDGETS), &error))?;
        budgets
    };
    Ok(Inference::new(tokenizer, budgets).with_style(style))
}

/// Reads a text model's folder as [`inference()`] does, for a model that grows picture codes (`mmada.md` 1.3). LLaDA's
/// conventions become MMaDA's. A picture takes `codes` codes; with `None`, as many as it took before, or as in the
/// published model.
///
/// # Errors
/// As [`inference()`]. Also an error if the tokenizer lacks the picture marks, or if the model's sequence is too short
/// for a picture; the latter has both lengths.
pub fn grown(dir: &Path, codes: Option<usize>) -> Result<Inference, WorkError> {
    let inference = inference(dir)?;
    has_room(dir, codes.unwrap_or(0))?;
    let style = inference.builder().style().clone();
    if style.family == Family::Tabletop {
        let budgets = *inference.builder().budgets();
        return Ok(inference.with_budgets(codes.map_or(budgets, |codes| budgets.with_codes(codes))));
    }
    let family = Family::Mmada;
    let tokenizer = published_folder::tokenizer(dir, family)?;
    let budgets = published_settings::with_pictures(dir, codes.unwrap_or(published_settings::CODES))?;
    Ok(Inference::new(tokenizer, budgets).with_style(PromptStyle { family, ..style }))
}

/// Checks that a picture of this many codes fits into a sequence with at least one more token.
fn has_room(dir: &Path, codes: usize) -> Result<(), WorkError> {
    let longest = published_folder::Facts::read(dir)?.max_sequence_length;
    match longest.filter(|&longest| codes.saturating_add(MARKS) >= longest) {
        None => Ok(()),
        Some(longest) => Err(WorkError::File {
            path: dir.join(CONFIG).display().to_string(),
            message: format!(
                "max_sequence_length is {longest}, but a picture takes {codes} codes and {MARKS} special tokens"
            ),
        }),
    }
}

/// Returns the files that describe this to a checkpoint of Demask, as a map from name to content.
///
/// # Errors
/// An error if the tokenizer cannot be written as JSON.
pub fn files(
    inference: &Inference,
    samplers: &SamplerSettings,
) -> Result<BTreeMap<String, String>, WorkError> {
    let builder = inference.builder();
    let mut files = BTreeMap::from([
        (TOKENIZER.to_owned(), builder.tokenizer().to_json()?),
        (BUDGETS.to_owned(), json(BUDGETS, builder.budgets())?),
        (SAMPLING.to_owned(), json(SAMPLING, samplers)?),
    ]);
    if *builder.style() != PromptStyle::default() {
        files.insert(PROMPTS.to_owned(), json(PROMPTS, builder.style())?);
    }
    Ok(files)
}

fn json<T: Serialize>(name: &str, value: &T) -> Result<String, WorkError> {
    serde_json::to_string(value).map_err(|error| broken(Path::new(name), &error))
}

/// Reads the recommended samplers of a checkpoint from `sampling.json`. Without that file these are the defaults; for a
/// published model, its published samplers.
///
/// # Errors
/// An error if the file is broken.
pub fn samplers(dir: &Path) -> Result<SamplerSettings, WorkError> {
    if published_folder::is_published(dir) {
        return Ok(published_settings::samplers());
    }
    read_json(dir, SAMPLING)
}

/// Reads a JSON file of a checkpoint, or returns the default if the file does not exist.
fn read_json<T: Default + DeserializeOwned>(dir: &Path, name: &str) -> Result<T, WorkError> {
    let path = dir.join(name);
    match bounded_file::read_text(&path, limits::LONGEST_CONFIG) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| broken(&path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(broken(&path, &error)),
    }
}

fn broken(path: &Path, error: &dyn std::error::Error) -> WorkError {
    WorkError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}
