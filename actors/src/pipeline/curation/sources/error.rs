//! Why a source cannot be used.

use std::io;
use std::path::PathBuf;

use demask_datasets::formats::row::ReadError;

use crate::pipeline::run_error::RunError;

/// The error of a source that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source cannot be read at all.
    #[error("source {name}: {error}")]
    Unreadable {
        /// The source.
        name: String,
        /// The reason.
        error: ReadError,
    },
    /// The index that finds duplicates cannot be written to disk.
    #[error("source {name}: the index of its texts in {}, which finds exact and near duplicates, failed: {error}", .folder.display())]
    Unindexed {
        /// The source.
        name: String,
        /// The folder of the index's files.
        folder: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// Too many rows of the source cannot be read.
    #[error(
        "source {name}: {bad} of {rows} rows cannot be read, more than the allowed share of {allowed} \
         (limits.bad_row_share); the first: {first}"
    )]
    TooManyBad {
        /// The source.
        name: String,
        /// Number of rows that cannot be read.
        bad: u64,
        /// Number of rows read.
        rows: u64,
        /// Largest allowed share of such rows.
        allowed: f64,
        /// Description of the first bad row.
        first: String,
    },
    /// Too many examples of the source are longer than the run's budgets.
    #[error(
        "source {name}: {long} of {rows} rows do not fit{}, more than the allowed share of {allowed} (limits.bad_row_share); \
         the first: {first}; `budgets` in the profile says what fits",
        if *.bad > 0 { format!(" and {bad} cannot be read") } else { String::new() }
    )]
    TooLong {
        /// The source.
        name: String,
        /// Examples that fit into no stage.
        long: u64,
        /// Rows that cannot be read.
        bad: u64,
        /// Rows and examples that were measured.
        rows: u64,
        /// Largest allowed share of such rows.
        allowed: f64,
        /// Description of the first example that does not fit.
        first: String,
    },
    /// A stage would have nothing to learn from.
    #[error("stage {stage}: {found}")]
    Unusable {
        /// The stage.
        stage: String,
        /// What was wanted, and what was found.
        found: String,
    },
    /// A row has changed since it was read first.
    #[error("source {name}: {error}")]
    Changed {
        /// The source.
        name: String,
        /// The row, and the reason.
        error: String,
    },
    /// Reading was cancelled because the daemon is ending.
    #[error("reading the sources was cancelled: the daemon is ending")]
    GivenUp,
    /// No example of the source is left.
    #[error("source {name}: {path} has no usable example")]
    Empty {
        /// The source.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
}

/// Reading that was given up because the daemon is ending is no failure of the run: the next daemon continues it (L1).
impl From<SourceError> for RunError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::GivenUp => Self::Ending,
            other => Self::Failed(other.to_string()),
        }
    }
}
