//! What a listing of the hub says of one file.

use serde::{Deserialize, Serialize};

/// What a listing says of a file. It may say nothing: what counts is what the file's own address says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its blob's SHA-1 in git; of a large file its pointer's.
    pub blob_id: Option<String>,
    /// The SHA-256 of a large file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    /// Its length again, as `huggingface_hub` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
    /// What the chunk store calls it: kept for Python, which speaks that store's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xet_hash: Option<String>,
}

impl Listed {
    /// What its blob will be called.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.lfs_sha256.as_deref().or(self.blob_id.as_deref())
    }
}
