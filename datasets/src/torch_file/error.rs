//! The errors of checkpoint files.

use std::path::{Path, PathBuf};

/// Why a file was not converted.
#[derive(Debug, thiserror::Error)]
pub enum TorchFileError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The output name cannot be used.
    #[error("{}: {message}", path.display())]
    Output {
        /// The name.
        path: PathBuf,
        /// What kind of output was expected.
        message: String,
    },
    /// The file is broken or of another kind.
    #[error("{}: {message}", path.display())]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The pickle asks for something other than tensors, numbers, texts and plain containers. None of it was executed.
    #[error(
        "{}: its pickle asks for {name} at byte {offset}, but only tensors, numbers, texts and plain containers are \
         supported; nothing was executed. If you trust the file, load it in Python and save only its state_dict()",
        path.display()
    )]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// The name `module.name`, or an instruction.
        name: String,
        /// The offset in the pickle.
        offset: usize,
    },
}

/// An error inside a file, before the path of the file is added.
#[derive(Debug)]
pub(super) enum Flaw {
    /// Reading failed.
    Io(std::io::Error),
    /// The file is broken; the text says what was expected and what was found.
    Broken(String),
    /// The pickle asks for something forbidden: the name and its offset in bytes.
    Forbidden(String, usize),
}

impl Flaw {
    /// Adds the file.
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

/// Makes the error of a broken file.
pub(super) fn broken<T>(message: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw::Broken(message.into()))
}

/// Shortens a text from a file for a message.
pub(super) fn short(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}…")
}
