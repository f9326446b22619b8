//! What can go wrong inside the engine, with what was expected and what was found.

use std::path::{Path, PathBuf};

use demask_api::EngineError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file system's.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file that is not what its name says.
    #[error("{path}: {message}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// A tensor of the wrong shape.
    #[error("{path}: tensor {tensor}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
        /// The shape in the file.
        found: Vec<i64>,
    },
    /// A tensor that the network needs is not there.
    #[error("{path}: tensor {tensor} of shape {expected:?} is missing")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<i64>,
    },
    /// A tensor that the network does not have.
    #[error("{path}: tensor {tensor} belongs to no layer of this configuration")]
    Extra {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A configuration that describes no network.
    #[error("configuration: {0}")]
    Config(String),
    /// A request that makes no sense: a sequence too long, a token outside the vocabulary.
    #[error("{0}")]
    Request(String),
    /// libtorch's.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl ModelError {
    /// Wraps a file system error with its path.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        let message = error.to_string();
        match error {
            ModelError::Io { path, source } => Self::Io {
                path: path.display().to_string(),
                full: source.kind() == std::io::ErrorKind::StorageFull,
                message: source.to_string(),
            },
            ModelError::Format { path, .. }
            | ModelError::Shape { path, .. }
            | ModelError::Missing { path, .. }
            | ModelError::Extra { path, .. } => Self::Checkpoint { path: path.display().to_string(), message },
            ModelError::Config(_) | ModelError::Request(_) => Self::Refused { message },
            ModelError::Torch(_) if message.contains("out of memory") => Self::OutOfMemory { message },
            ModelError::Torch(_) => Self::Internal { message },
        }
    }
}
