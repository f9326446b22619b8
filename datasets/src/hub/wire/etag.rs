//! A file's content hash as the hub names it: SHA-256 for a large file, git's blob SHA-1 for a small one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::hub::repo::is_hex;

/// An `ETag` without its quotes. It names the file's blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Etag {
    /// A file in large file storage (LFS): the SHA-256 of its bytes.
    Sha256(String),
    /// A file in git itself: the SHA-1 of its length and bytes, as `git hash-object` computes it.
    GitSha1(String),
    /// A tag of the server's own: a name that verifies nothing.
    Opaque(String),
}

impl Etag {
    /// Parses `"…"` or `W/"…"`; `None` if it cannot be a file name.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let text = header
            .trim()
            .trim_start_matches("W/")
            .trim_matches('"')
            .to_owned();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if is_hex(&text, 64) {
            Some(Self::Sha256(text))
        } else if is_hex(&text, 40) {
            Some(Self::GitSha1(text))
        } else if text.starts_with('.') || !(1..=128).contains(&text.len()) || !text.chars().all(allowed) {
            None
        } else {
            Some(Self::Opaque(text))
        }
    }

    /// Returns the blob's name in the cache.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitSha1(text) | Self::Opaque(text) => text,
        }
    }

    /// Returns the kind of hash that verifies a file, if there is one.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        match self {
            Self::Sha256(_) => Some("sha256"),
            Self::GitSha1(_) => Some("git sha1"),
            Self::Opaque(_) => None,
        }
    }

    /// Computes a file's hash of this tag's kind; `None` if the tag is opaque.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn of_file(&self, path: &Path) -> io::Result<Option<String>> {
        match self {
            Self::Sha256(_) => sha256(path).map(Some),
            Self::GitSha1(_) => git_sha1(path).map(Some),
            Self::Opaque(_) => Ok(None),
        }
    }
}

/// Computes the SHA-256 of a file.
///
/// # Errors
/// Any I/O error.
pub fn sha256(path: &Path) -> io::Result<String> {
    hash(Sha256::new(), path)
}

/// Computes git's blob SHA-1 of a file.
///
/// # Errors
/// Any I/O error.
pub fn git_sha1(path: &Path) -> io::Result<String> {
    let head = format!("blob {}\0", std::fs::metadata(path)?.len());
    hash(Sha1::new_with_prefix(head), path)
}

fn hash<D: Digest>(mut digest: D, path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
