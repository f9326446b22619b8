//! A file lock shared with Python's `filelock`: two pulls of one blob wait for each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

/// The interval at which a lock held by another process is retried.
const EVERY: Duration = Duration::from_millis(50);

/// An exclusive `flock`, held until it is dropped; the lock file stays.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock. Calls `held` once if another process holds it.
    ///
    /// # Errors
    /// An error if the file cannot be created, opened or locked.
    pub async fn take(path: &Path, mut held: impl FnMut()) -> io::Result<Self> {
        let mut told = false;
        loop {
            if let Some(file) = attempt(path)? {
                return Ok(Self { _file: file });
            }
            if !std::mem::replace(&mut told, true) {
                held();
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn attempt(path: &Path) -> io::Result<Option<File>> {
    // Other members of the group may lock it too, as with Python's `filelock`.
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o664)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(is_still(&file, path).then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the path still names the opened file: the previous holder may have removed it.
fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}
