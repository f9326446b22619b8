//! The entry of one file in a hub listing.

use serde::{Deserialize, Serialize};

/// The listed metadata of a file. Any field may be missing: the headers of the file's own address are authoritative.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Length in bytes.
    pub size: Option<u64>,
    /// Git's SHA-1 of the blob; for a large file, of its pointer.
    pub blob_id: Option<String>,
    /// SHA-256 of a large file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    /// Length in bytes of a large file, repeated because `huggingface_hub` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
    /// The file's hash in the Xet chunk store; kept for `huggingface_hub`, which speaks Xet's protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xet_hash: Option<String>,
}

impl Listed {
    /// Returns the name that the blob will have in the cache.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.lfs_sha256.as_deref().or(self.blob_id.as_deref())
    }
}
