//! What can be wrong with a checkpoint file.

use std::path::{Path, PathBuf};

/// Why a file was not converted.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// It cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Nothing can be written under the name that was given.
    #[error("{}: {message}", path.display())]
    Output {
        /// The name.
        path: PathBuf,
        /// What was expected.
        message: String,
    },
    /// It is broken, or not what it should be.
    #[error("{}: {message}", path.display())]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// Its pickle asks for something that is no tensor, number, text or plain container. Nothing of it was run.
    #[error(
        "{}: its pickle asks for {name} at byte {offset}; only tensors, numbers, texts and plain containers are \
         built, and nothing was run. If you trust the file, load it in Python and save its state_dict() alone",
        path.display()
    )]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// `module.name`, or an instruction.
        name: String,
        /// Where in the pickle.
        offset: usize,
    },
}

/// The same before it is known which file.
#[derive(Debug)]
pub(super) enum Flaw {
    /// Reading failed.
    Io(std::io::Error),
    /// What was expected and found.
    Broken(String),
    /// What was asked for, and where.
    Forbidden(String, usize),
}

impl Flaw {
    /// Says which file.
    pub(super) fn at(self, path: &Path) -> TorchFileError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => TorchFileError::Io { path, source },
            Self::Broken(message) => TorchFileError::Broken { path, message },
            Self::Forbidden(name, offset) => TorchFileError::Forbidden { path, name, offset },
        }
    }
}

impl From<std::io::Error> for Flaw {
    fn from(source: std::io::Error) -> Self {
        Self::Io(source)
    }
}

/// A broken file.
pub(super) fn broken<T>(message: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Broken(message.into()))
}

/// The beginning of a text that a file gives, for a message.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}…")
}
