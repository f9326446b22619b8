//! What the hub calls a file's content: the SHA-256 of a large file, git's blob SHA-1 of a small one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::hub::repo::is_hex;

/// An `ETag` without its quotes: the name of the file's blob in the cache, and what is known of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Etag {
    /// A file in large file storage: the SHA-256 of its bytes.
    Sha256(String),
    /// A file in git itself: the SHA-1 of its length and its bytes, as `git hash-object` has it.
    GitSha1(String),
    /// A server's own word: a name, but nothing to check.
    Opaque(String),
}

impl Etag {
    /// Reads `"…"` or `W/"…"`; nothing where it could not be a file's name.
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

    /// As the cache names the blob.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitSha1(text) | Self::Opaque(text) => text,
        }
    }

    /// The hash of a file that is compared with it, if one is.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        match self {
            Self::Sha256(_) => Some("sha256"),
            Self::GitSha1(_) => Some("git sha1"),
            Self::Opaque(_) => None,
        }
    }

    /// The hash that a file on disk really has; nothing where this tag has none to compare.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(&self, path: &Path) -> io::Result<Option<String>> {
        match self {
            Self::Sha256(_) => sha256(path).map(Some),
            Self::GitSha1(_) => git_sha1(path).map(Some),
            Self::Opaque(_) => Ok(None),
        }
    }
}

/// The SHA-256 of a file's bytes.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    hash(Sha256::new(), path)
}

/// The SHA-1 that git gives a file.
///
/// # Errors
/// The file cannot be read.
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
