//! What a reader says of each row: an example, or why there is none.

use std::collections::BTreeMap;
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

/// Where a row lies, so that it can be read again. Compact: a source may have millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// The number of the file in the highest 16 bits, the byte or item in it in the others.
    pub at: u64,
    /// The line or item, from 1, as a person counts it.
    pub line: u32,
}

/// Bits of [`RowPlace::at`] that are the byte or item.
const WITHIN: u32 = 48;

impl RowPlace {
    /// Files that a source may have.
    pub const MOST_FILES: usize = 1 << (64 - WITHIN);

    /// The place of a byte or item of a file.
    #[must_use]
    pub fn new(file: usize, within: u64, line: u64) -> Self {
        Self {
            at: ((file as u64) << WITHIN) | within,
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }

    /// The file's number.
    #[must_use]
    pub fn file(self) -> usize {
        (self.at >> WITHIN) as usize
    }

    /// The byte or item in it.
    #[must_use]
    pub const fn within(self) -> u64 {
        self.at & ((1 << WITHIN) - 1)
    }
}

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
    /// The source's own names of columns, by the names that readers know.
    pub columns: BTreeMap<String, String>,
    /// Which of a row's own columns stay with its examples.
    pub keep: KeptColumns,
}

/// Which of a row's own columns stay with its examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeptColumns {
    /// None: what they mean is all that is wanted.
    #[default]
    Nothing,
    /// Those of these names.
    Named(Vec<String>),
    /// All, and nothing is made of them: a row of any columns is one example of plain text that says nothing, with the row's
    /// picture where it has one. Who asked for it knows what the columns mean.
    Whole,
}
