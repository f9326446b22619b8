//! What a reader says of each row: an example, or why there is none.

use std::path::{Path, PathBuf};

use crate::example::Example;

/// A row of a file that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The line or item, from 1.
    pub line: u64,
    /// What was expected and what was found.
    pub reason: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// The examples of a row, which now say where it is.
pub(crate) fn placed(mut examples: Vec<Example>, file: &Path, line: u64) -> Vec<Example> {
    for example in &mut examples {
        example.place = format!("{}:{line}", file.display());
    }
    examples
}

/// What one row gave: its examples (a labelled picture gives several), or why none.
pub type Row = Result<Vec<Example>, BadRow>;

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
}

impl ReadError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

/// Where rows come from, written on each example.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// Its licence.
    pub licence: String,
    /// Which split the file is.
    pub split: crate::example::Split,
    /// Pixels of a picture's side.
    pub pixels: usize,
}
