//! What can go wrong between a request and libtorch.

use std::path::Path;

use demask_api::EngineError;
use tch::TchError;

/// The result of everything in this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// Why the model could not.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A request that makes no sense, with what was expected and what was found.
    #[error("{0}")]
    Refused(String),
    /// A file of a checkpoint that is missing, broken or misshapen.
    #[error("{path}: {message}")]
    Checkpoint {
        /// The file or folder.
        path: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A file that could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl ModelError {
    /// A checkpoint error at a path.
    pub fn checkpoint(path: &Path, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.display().to_string(),
            message: message.into(),
        }
    }

    /// A file system error at a path.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source,
        }
    }
}

impl ModelError {
    fn torch_said(&self, words: &[&str]) -> bool {
        let Self::Torch(error) = self else { return false };
        let message = error.to_string();
        words.iter().any(|words| message.contains(words))
    }

    /// Whether a device or the host had no memory left: nothing is broken, and less may still be had.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        // CUDA's words, and those of the CPU's allocator.
        self.torch_said(&["out of memory", "can't allocate memory", "not enough memory"])
    }

    /// Whether the device failed in a way after which nothing works on it in this process.
    #[must_use]
    pub fn is_device_fault(&self) -> bool {
        self.torch_said(&["CUDA error", "device-side assert"]) && !self.is_out_of_memory()
    }
}

impl From<ModelError> for EngineError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Refused(message) => Self::Refused { message },
            ModelError::Checkpoint { path, message } => Self::Checkpoint { path, message },
            ModelError::Io { path, source } => {
                let full = matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                );
                Self::Io {
                    path,
                    message: source.to_string(),
                    full,
                }
            }
            ModelError::Torch(error) => {
                let message = error.to_string();
                // CUDA's words, and those of the CPU's allocator.
                let memory = ["out of memory", "can't allocate memory", "not enough memory"];
                if memory.iter().any(|words| message.contains(words)) {
                    Self::OutOfMemory { message }
                } else {
                    Self::Internal { message }
                }
            }
        }
    }
}
