//! The shape of the image tokenizer in a folder.

use std::path::Path;

use demask_api::{ImageTokenizerConfig, checkpoint};

use super::error::WorkError;

/// The shape of a checkpoint's image tokenizer.
///
/// # Errors
/// No such file, or one that is broken: named.
pub fn image_tokenizer_config(dir: &Path) -> Result<ImageTokenizerConfig, WorkError> {
    image_tokenizer_shape(&dir.join(checkpoint::IMAGE_TOKENIZER))
}

/// The shape of the image tokenizer in a folder of its own.
///
/// # Errors
/// As [`image_tokenizer_config`].
pub fn image_tokenizer_shape(folder: &Path) -> Result<ImageTokenizerConfig, WorkError> {
    let path = folder.join(checkpoint::CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|error| broken(&path, &error))?;
    serde_json::from_str(&text).map_err(|error| broken(&path, &error))
}

fn broken(path: &Path, error: &dyn std::error::Error) -> WorkError {
    WorkError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}
