//! What a checkpoint's folder says of prompts, lengths and samplers: in files of ours beside the weights, or as a published
//! folder has it.

use std::path::Path;

use demask_datasets::prompt_style::PromptStyle;
use demask_datasets::published as published_folder;
pub use demask_datasets::published::BUDGETS;
use serde::de::DeserializeOwned;

use crate::published;
use crate::workbench::{Draws, WorkError, Workbench};

/// The name of the file that keeps how a checkpoint is prompted, where it is not as ours are.
pub const PROMPTS: &str = "prompts.json";
/// The name of the file that keeps the samplers in a checkpoint.
pub const SAMPLING: &str = "sampling.json";

/// From `tokenizer.json` and, if it has them, `budgets.json` and `prompts.json`; or from a published folder.
///
/// # Errors
/// A file that is missing or broken.
pub fn workbench(dir: &Path) -> Result<Workbench, WorkError> {
    let is_published = published_folder::is_published(dir);
    let style: PromptStyle = if is_published {
        published_folder::style(dir)?
    } else {
        read_json(dir, PROMPTS)?
    };
    let tokenizer = published_folder::tokenizer(dir, style.family)?;
    let budgets = if is_published {
        published::budgets(dir, published::CODES)?
    } else {
        read_json(dir, BUDGETS)?
    };
    Ok(Workbench::new(tokenizer, budgets).with_style(style))
}

/// How `sampling.json` says that the checkpoint is sampled best; as usual where it has none, as published where the model is.
///
/// # Errors
/// A file that is broken.
pub fn draws(dir: &Path) -> Result<Draws, WorkError> {
    if published_folder::is_published(dir) {
        return Ok(published::draws());
    }
    read_json(dir, SAMPLING)
}

/// A file of a checkpoint; the default where there is none.
fn read_json<T: Default + DeserializeOwned>(dir: &Path, name: &str) -> Result<T, WorkError> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
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
