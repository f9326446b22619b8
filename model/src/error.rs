//! The errors of this crate, and their conversion to the errors of an engine's answer.

use std::path::Path;

use demask_api::EngineError;
use tch::TchError;

/// The result type of this crate.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// The error type of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The request is invalid. The message says what was expected and what was found.
    #[error("{0}")]
    Refused(String),
    /// A file of a checkpoint is missing, broken or misshapen.
    #[error("{path}: {message}")]
    Checkpoint {
        /// The file or folder.
        path: String,
        /// What was expected and what was found.
        message: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
    /// Another rank is gone or does not answer, which ends the world.
    #[error("the ranks failed: {0}")]
    World(String),
}

impl ModelError {
    /// Turns an error of this rank alone, after which it is no longer like its peers, into one that ends the world.
    pub(crate) fn fatal(self) -> Self {
        match self {
            world @ Self::World(_) => world,
            other => Self::World(format!("this rank failed: {other}")),
        }
    }

    /// Creates a checkpoint error for a path.
    pub fn checkpoint(path: &Path, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.display().to_string(),
            message: message.into(),
        }
    }

    /// Creates a file system error for a path.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source,
        }
    }
}

impl ModelError {
    fn is_of_libtorch(&self, kind: impl Fn(&EngineError) -> bool) -> bool {
        matches!(self, Self::Torch(error) if kind(&of_libtorch(error.to_string())))
    }

    /// Returns whether a device or the host was out of memory. Nothing is broken, and a smaller request may succeed.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.is_of_libtorch(|error| matches!(error, EngineError::OutOfMemory { .. }))
    }

    /// Returns whether an operator lacks a deterministic implementation that was required.
    #[must_use]
    pub fn lacks_determinism(&self) -> bool {
        matches!(self, Self::Torch(error) if error.to_string().contains("deterministic implementation"))
    }

    /// Returns whether the device failed so that this process cannot use it any more.
    #[must_use]
    pub fn is_device_fault(&self) -> bool {
        self.is_of_libtorch(|error| matches!(error, EngineError::Device { .. }))
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
            ModelError::Torch(error) => of_libtorch(error.to_string()),
            ModelError::World(_) => Self::Internal {
                message: error.to_string(),
            },
        }
    }
}

/// The texts in messages of CUDA's, the CPU's and C++'s allocators that mean out of memory.
const MEMORY: [&str; 5] = [
    "bad_alloc",
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
];
/// The texts in messages that mean a device fault, after which every call on the device fails until the process ends.
const DEVICE: [&str; 3] = [
    "CUDA error",
    "device-side assert",
    "CUDNN_STATUS_EXECUTION_FAILED",
];

/// Removes the C++ stack frames from a message of libtorch, and logs the whole message.
fn without_frames(mut message: String) -> String {
    let frames = ["\nframe #", "\nException raised from"].map(|words| message.find(words));
    if let Some(end) = frames.into_iter().flatten().min() {
        tracing::debug!("{message}");
        message.truncate(end);
    }
    message
}

/// Classifies a message of libtorch as an engine's error.
#[must_use]
pub fn of_libtorch(message: String) -> EngineError {
    let message = without_frames(message);
    let has = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if has(&MEMORY) {
        EngineError::OutOfMemory { message }
    } else if has(&DEVICE) {
        EngineError::Device { message }
    } else {
        EngineError::Internal { message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_without_the_frames_that_it_came_through() {
        let words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.";
        let whole = format!("{words}\nframe #0: c10::alloc_cpu(unsigned long)\nframe #1: main");
        let message = words.to_owned();
        assert_eq!(of_libtorch(whole), EngineError::OutOfMemory { message });
    }

    #[test]
    fn a_device_that_failed_is_told_from_one_that_is_full() {
        for (words, kind) in [
            ("CUDA error: an illegal memory access was encountered", "device"),
            ("CUDA error: device-side assert triggered", "device"),
            ("CUDA error: out of memory", "out_of_memory"),
            ("CUDA out of memory. Tried to allocate 2.00 GiB.", "out_of_memory"),
            (
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "out_of_memory",
            ),
            ("DefaultCPUAllocator: can't allocate memory", "out_of_memory"),
            ("std::bad_alloc", "out_of_memory"),
            (
                "The size of tensor a (3) must match the size of tensor b (4)",
                "internal",
            ),
        ] {
            let error = EngineError::from(ModelError::from(TchError::Torch(words.to_owned())));
            let found = match &error {
                EngineError::Device { message } if message.contains(words) => "device",
                EngineError::OutOfMemory { message } if message.contains(words) => "out_of_memory",
                EngineError::Internal { message } if message.contains(words) => "internal",
                _ => "another",
            };
            assert_eq!(found, kind, "{words}");
        }
    }
}
