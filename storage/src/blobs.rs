//! Content-addressed storage of pictures: `blobs/ab/cdef…`, named by BLAKE3, each written once and atomically.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::StoreError;

/// The number of the next work file of this process. Two threads may write the same picture at the same time, and with
/// one name for both, each would truncate or rename away the file of the other.
static NEXT_WORK: AtomicU64 = AtomicU64::new(0);

/// The folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// Makes the handle of a folder, which is created at the first write.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of a blob.
    #[must_use]
    pub fn path(&self, hash: &str) -> PathBuf {
        let (head, tail) = hash.split_at_checked(2).unwrap_or(("", hash));
        self.root.join(head).join(tail)
    }

    /// Writes a blob unless it exists; returns its hash.
    ///
    /// # Errors
    /// Any I/O error, with the file's path.
    pub fn put(&self, bytes: &[u8]) -> Result<String, StoreError> {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let path = self.path(&hash);
        if !path.is_file() {
            let io = |source| StoreError::Io {
                path: path.clone(),
                source,
            };
            write_whole(&path, bytes).map_err(io)?;
        }
        Ok(hash)
    }

    /// Reads a blob.
    ///
    /// # Errors
    /// Any I/O error, with the file's path.
    pub fn get(&self, hash: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(hash);
        std::fs::read(&path).map_err(|source| StoreError::Io { path, source })
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let number = NEXT_WORK.fetch_add(1, Ordering::Relaxed);
    let work = path.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = write_synced(&work, bytes).and_then(|()| std::fs::rename(&work, path));
    if written.is_err() {
        // A partial file would take space on a disk that may be full.
        std::fs::remove_file(work).ok();
    }
    written
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
