//! The configuration of the image tokenizer in a folder.

use std::path::Path;

use demask_api::{ImageTokenizerConfig, bounded_file, checkpoint, limits, validation};

use super::error::WorkError;

/// Reads the configuration of a checkpoint's image tokenizer.
///
/// # Errors
/// An error with the file's path if the file is missing or broken.
pub fn image_tokenizer_config(dir: &Path) -> Result<ImageTokenizerConfig, WorkError> {
    image_tokenizer_shape(&dir.join(checkpoint::IMAGE_TOKENIZER))
}

/// Reads the configuration of an image tokenizer from its own folder.
///
/// # Errors
/// As [`image_tokenizer_config`]; also an error if a number is beyond its limit (law L9).
pub fn image_tokenizer_shape(folder: &Path) -> Result<ImageTokenizerConfig, WorkError> {
    let path = folder.join(checkpoint::CONFIG);
    let text =
        bounded_file::read_text(&path, limits::LONGEST_CONFIG).map_err(|error| broken(&path, &error))?;
    let config = serde_json::from_str(&text).map_err(|error| broken(&path, &error))?;
    validation::image_tokenizer(&config).map_err(|error| broken(&path, &error))?;
    Ok(config)
}

fn broken(path: &Path, error: &dyn std::error::Error) -> WorkError {
    WorkError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}
