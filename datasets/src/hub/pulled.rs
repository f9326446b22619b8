//! The result of a pull.

use std::path::PathBuf;

use serde::Serialize;

/// Where a pulled file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullOrigin {
    /// It was in the cache.
    Cache,
    /// It was fetched, wholly or in part.
    Hub,
}

/// A pulled file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PulledFile {
    /// The file's path, both in the repository and below the snapshot's folder.
    pub file: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Whether the file was fetched or in the cache.
    pub origin: PullOrigin,
    /// What was verified against the hub's metadata: `sha256`, `git sha1` or `size`. `None` if the metadata had none of
    /// them or the file was in the cache.
    pub checked: Option<&'static str>,
}

/// The result of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// `OWNER/NAME`.
    pub repo: String,
    /// The revision as requested.
    pub revision: String,
    /// The commit of the revision.
    pub commit: String,
    /// The folder that holds the files.
    pub snapshot: PathBuf,
    /// The files, by path.
    pub files: Vec<PulledFile>,
}
