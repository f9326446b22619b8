//! The error of a request that could not be made or answered.

use demask_datasets::prompts::published::FolderError;
use demask_datasets::prompts::sequences::SequenceError;
use demask_datasets::prompts::text_tokenizer::TokenizerError;

use crate::engine::process::EngineFailure;

/// The error of a request that could not be made or answered.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A prompt or an answer does not fit its budget.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A benchmark cannot be run.
    #[error(transparent)]
    Suite(#[from] demask_rewards::benchmarks::SuiteError),
    /// A judged item cannot be stored.
    #[error(transparent)]
    Store(#[from] demask_storage::StoreError),
    /// The folder of a model is wrong.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file of the checkpoint is wrong.
    #[error("{path}: {message}")]
    File {
        /// Path of the file.
        path: String,
        /// What is wrong with the file.
        message: String,
    },
}
