//! What came of a pull.

use std::path::PathBuf;

use serde::Serialize;

/// Where a pulled file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullOrigin {
    /// In the cache already.
    Cache,
    /// It was fetched, or the rest of it.
    Hub,
}

/// A file of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PulledFile {
    /// Its path in the repository and below the snapshot's folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Where it was.
    pub origin: PullOrigin,
    /// What was compared with the hub's word of it: `sha256`, `git sha1` or `size`; nothing where nothing could be, or it was here.
    pub checked: Option<&'static str>,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// `OWNER/NAME`.
    pub repo: String,
    /// As it was asked for.
    pub revision: String,
    /// The commit that it stands for.
    pub commit: String,
    /// The folder that holds the files.
    pub snapshot: PathBuf,
    /// The files, by path.
    pub files: Vec<PulledFile>,
}
