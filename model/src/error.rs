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
    /// A peer of this rank is gone or does not answer: the world is over.
    #[error("the world: {0}")]
    World(String),
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
    fn is_of_libtorch(&self, kind: impl Fn(&EngineError) -> bool) -> bool {
        matches!(self, Self::Torch(error) if kind(&of_libtorch(error.to_string())))
    }

    /// Whether a device or the host had no memory left: nothing is broken, and less may still be had.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.is_of_libtorch(|error| matches!(error, EngineError::OutOfMemory { .. }))
    }

    /// Whether an operator was asked for the same bits each time and has no way to give them.
    #[must_use]
    pub fn lacks_determinism(&self) -> bool {
        matches!(self, Self::Torch(error) if error.to_string().contains("deterministic implementation"))
    }

    /// Whether the device failed in a way after which nothing works on it in this process.
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

/// Words of CUDA's and of the CPU's allocator: less work may do.
const MEMORY: [&str; 4] = [
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
];
/// Words after which every call on the device answers the same, to the process's end.
const DEVICE: [&str; 3] = [
    "CUDA error",
    "device-side assert",
    "CUDNN_STATUS_EXECUTION_FAILED",
];

/// libtorch's words without the C++ frames that follow them, which a log may want and a person does not.
fn without_frames(mut message: String) -> String {
    let frames = ["\nframe #", "\nException raised from"].map(|words| message.find(words));
    if let Some(end) = frames.into_iter().flatten().min() {
        tracing::debug!("{message}");
        message.truncate(end);
    }
    message
}

/// What libtorch's words mean for whoever asked.
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
