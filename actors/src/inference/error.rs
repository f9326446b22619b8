//! Why a request could not be made or answered.

use demask_datasets::prompts::published::FolderError;
use demask_datasets::prompts::sequences::SequenceError;
use demask_datasets::prompts::text_tokenizer::TokenizerError;

use crate::engine::process::EngineFailure;

/// Why a request could not be made or answered.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A prompt or answer that does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A benchmark that cannot be run.
    #[error(transparent)]
    Suite(#[from] demask_rewards::benchmarks::SuiteError),
    /// What was judged cannot be kept.
    #[error(transparent)]
    Store(#[from] demask_storage::StoreError),
    /// The folder of a model.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file of the checkpoint.
    #[error("{path}: {message}")]
    File {
        /// The file, with its folder.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}
