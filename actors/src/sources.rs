//! What a source's file holds, as examples; rows that cannot be used are reported and counted.

use std::path::PathBuf;

use demask_datasets::example::Example;

use crate::profile::{Profile, Source, SourceKind};

/// Why a source could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not readable at all, or too many of its rows are bad.
    #[error("source {name}: {message}")]
    Unusable {
        /// The source.
        name: String,
        /// Why.
        message: String,
    },
}

/// What reading found.
#[derive(Clone, Debug)]
pub enum Report {
    /// A row that was left out.
    Rejected {
        /// The source.
        source: String,
        /// The file.
        file: PathBuf,
        /// The line or item, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// The source is read.
    Done {
        /// The source.
        source: String,
        /// Examples.
        kept: u64,
    },
}

/// Reads a source that is a file or a folder.
///
/// # Errors
/// [`SourceError::Unusable`].
pub fn read(
    source: &Source,
    _profile: &Profile,
    _report: &mut dyn FnMut(Report),
) -> Result<Vec<Example>, SourceError> {
    let message = match source.kind {
        SourceKind::Jsonl | SourceKind::ImageFolder | SourceKind::Idx => "files are not read yet",
        _ => "is generated and takes no path",
    };
    Err(SourceError::Unusable {
        name: source.name.clone(),
        message: message.into(),
    })
}
