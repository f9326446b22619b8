//! The types that every reader shares: a row's result and place, the errors of a file, and the origin of rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::example::{Check, Example, Kind};

/// A row that could not be interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The line or item number, from 1.
    pub line: u64,
    /// What was expected and what was found.
    pub reason: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// Writes the file and line into each example of a row.
pub(crate) fn placed(mut examples: Vec<Example>, file: &Path, line: u64) -> Vec<Example> {
    for example in &mut examples {
        example.place = format!("{}:{line}", file.display());
    }
    examples
}

/// The result of one row: its examples (a labelled picture yields several), or the reason why there are none.
pub type Row = Result<Vec<Example>, BadRow>;

/// The position of a row, from which it can be read again. It is compact because a source may have millions of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// The index of the file in the highest 16 bits, and the byte offset or item number in the other 48.
    pub at: u64,
    /// The line or item number, from 1, for messages.
    pub line: u32,
}

/// The bits of [`RowPlace::at`] that hold the offset or item number.
const WITHIN: u32 = 48;

impl RowPlace {
    /// The most files of a source.
    pub const MOST_FILES: usize = 1 << (64 - WITHIN);

    /// Makes the place of the byte or item `within` a file.
    #[must_use]
    pub fn new(file: usize, within: u64, line: u64) -> Self {
        Self {
            at: ((file as u64) << WITHIN) | within,
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }

    /// Returns the index of the file.
    #[must_use]
    pub fn file(self) -> usize {
        (self.at >> WITHIN) as usize
    }

    /// Returns the byte offset or item number in the file.
    #[must_use]
    pub const fn within(self) -> u64 {
        self.at & ((1 << WITHIN) - 1)
    }
}

/// Why a whole file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// The file is of another format than expected.
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

/// The origin of rows, which is written to each example, and how to read them.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// The source's licence.
    pub licence: String,
    /// The split of the file.
    pub split: crate::example::Split,
    /// The side of a decoded picture in pixels.
    pub pixels: usize,
    /// The row's own column names, by the names that readers know.
    pub columns: BTreeMap<String, String>,
    /// Which of the row's own columns stay with its examples.
    pub keep: KeptColumns,
}

impl Origin {
    /// Returns an empty example of plain text with this source, licence and split.
    pub(crate) fn blank(&self) -> Example {
        Example {
            id: String::new(),
            source: self.source.clone(),
            place: String::new(),
            licence: self.licence.clone(),
            split: self.split,
            kind: Kind::Text,
            category: String::new(),
            held_out: false,
            prompt: String::new(),
            turns: Vec::new(),
            picture: None,
            reasoning: None,
            answer: None,
            check: Check::None,
            columns: serde_json::Map::new(),
        }
    }
}

/// Which of the row's own columns stay with its examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeptColumns {
    /// No columns: only the interpreted content is kept.
    #[default]
    Nothing,
    /// The columns of these names.
    Named(Vec<String>),
    /// All columns, uninterpreted: each row becomes one empty plain-text example with the row's picture, if it has one.
    /// The caller interprets the columns.
    Whole,
}
