//! The cache layout of `huggingface_hub`: blobs by content, one folder of symbolic links per commit, one file per
//! branch.
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG
//!                     refs/REVISION                 holds the commit
//!                     snapshots/COMMIT/a/b.json     -> ../../../blobs/ETAG
//!                     trees/COMMIT.json             the files of a complete snapshot
//! .locks/models--OWNER--NAME/ETAG.lock
//! CACHEDIR.TAG                                      so that backups leave it out
//! ```

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::hub::repo::is_commit;
use crate::hub::wire::etag::Etag;
use crate::hub::{HubError, Repo};

/// The content of `CACHEDIR.TAG`, by the Cache Directory Tagging Specification.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Pulled from the Hugging Face Hub.\n";

/// A counter that makes temporary file names unique in this process.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The hub's cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder; `HF_HUB_CACHE`.
    pub root: PathBuf,
}

impl Cache {
    /// Returns the cache that `huggingface_hub` would use in this process's environment.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            root: crate::hub::settings::cache_of_environment(),
        }
    }

    /// Returns a repository's place in the cache.
    #[must_use]
    pub(in crate::hub) fn shelf(&self, repo: &Repo) -> CachedRepo {
        let name = repo.folder_name();
        CachedRepo {
            folder: self.root.join(&name),
            locks: self.root.join(".locks").join(name),
        }
    }

    /// Marks the folder as a cache for backup programs.
    ///
    /// # Errors
    /// Any I/O error.
    pub(in crate::hub) fn tag(&self) -> Result<(), HubError> {
        let path = self.root.join("CACHEDIR.TAG");
        if path.exists() {
            return Ok(());
        }
        write(&path, TAG.as_bytes())
    }

    /// Checks that a folder, which need not exist, lies outside the cache after links are resolved.
    ///
    /// # Errors
    /// [`HubError::InTheCache`], or an I/O error if the working directory no longer exists.
    pub fn check_outside(&self, folder: &Path) -> Result<(), HubError> {
        let [there, cache] = [folder, &self.root].map(|path| resolved(path).map_err(HubError::at(path)));
        let (there, cache) = (there?, cache?);
        if there.starts_with(&cache) {
            let folder = folder.to_owned();
            return Err(HubError::InTheCache { folder, cache });
        }
        Ok(())
    }

    /// Returns the snapshot folder of a pulled repository: of the commit that the revision is, or last pointed to.
    #[must_use]
    pub fn snapshot(&self, repo: &Repo) -> Option<PathBuf> {
        let shelf = self.shelf(repo);
        let snapshot = shelf.snapshot(&shelf.commit(&repo.revision)?);
        snapshot.is_dir().then_some(snapshot)
    }
}

/// A repository's place in the cache.
#[derive(Clone, Debug)]
pub struct CachedRepo {
    folder: PathBuf,
    locks: PathBuf,
}

impl CachedRepo {
    /// Returns the folder of the blobs.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// Returns the path of a blob.
    #[must_use]
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    /// Returns the path of a blob until it is complete and verified.
    #[must_use]
    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.blobs().join(format!("{etag}.incomplete"))
    }

    /// Returns the path of a blob's lock.
    #[must_use]
    pub fn lock(&self, etag: &Etag) -> PathBuf {
        self.locks.join(format!("{}.lock", etag.as_str()))
    }

    /// Returns a commit's folder of links.
    #[must_use]
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Returns the path of a commit's stored listing.
    #[must_use]
    pub fn tree(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// Returns the commit that a revision is, or last pointed to.
    #[must_use]
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Returns the length of a file of a snapshot; `None` if the file or its blob is missing.
    #[must_use]
    pub fn has(&self, commit: &str, file: &str) -> Option<u64> {
        length(&self.snapshot(commit).join(file))
    }

    /// Creates the folders that a file needs.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn prepare(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        let beside = link.parent().map(Path::to_owned);
        for folder in [Some(self.blobs()), Some(self.locks.clone()), beside]
            .into_iter()
            .flatten()
        {
            fs::create_dir_all(&folder).map_err(HubError::at(&folder))?;
        }
        Ok(())
    }

    /// Adds a blob to a snapshot by a relative link, so that the cache can be moved.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn link(&self, commit: &str, file: &str, etag: &Etag) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.split('/').count() - 1);
        let target = PathBuf::from(format!("{up}blobs/{}", etag.as_str()));
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        renamed(&link, |work| std::os::unix::fs::symlink(&target, work))
    }

    /// Records the commit that a branch or tag now points to.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        write(&path, commit.as_bytes())
    }
}

/// Returns a path without links and `..`. Components that do not exist yet are kept as written.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => _ = real.pop(),
            part => real.push(part),
        }
        if let Ok(there) = real.canonicalize() {
            real = there;
        }
    }
    Ok(real)
}

/// Returns the length of a regular file, following links; `None` if it is not one.
#[must_use]
pub fn length(path: &Path) -> Option<u64> {
    fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
}

/// Writes a small file atomically.
///
/// # Errors
/// Any I/O error.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(HubError::at(folder))?;
    }
    renamed(path, |work| fs::write(work, bytes))
}

/// Creates a file under a temporary name, then renames it, so that a reader sees either the old or the new one.
fn renamed(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), HubError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(
        ".{}.{}.tmp",
        std::process::id(),
        MADE.fetch_add(1, Relaxed)
    ));
    let work = path.with_file_name(name);
    make(&work).map_err(HubError::at(&work))?;
    fs::rename(&work, path).map_err(HubError::at(path))
}
