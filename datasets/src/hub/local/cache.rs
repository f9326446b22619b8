//! The cache that `huggingface_hub` keeps: blobs by content, a snapshot of links a commit, a file a branch.
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG
//!                     refs/REVISION                 holds the commit
//!                     snapshots/COMMIT/a/b.json     -> ../../../blobs/ETAG
//!                     trees/COMMIT.json             what a whole snapshot would hold
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

/// What marks a cache, by the Cache Directory Tagging Specification.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Pulled from the Hugging Face Hub.\n";

/// Numbers the files that this process makes before it renames them.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The cache's folder.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `HF_HUB_CACHE`.
    pub root: PathBuf,
}

impl Cache {
    /// The folder that `huggingface_hub` would use in this process's environment.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            root: crate::hub::settings::cache_of_environment(),
        }
    }

    /// A repository's place in it.
    #[must_use]
    pub(in crate::hub) fn shelf(&self, repo: &Repo) -> CachedRepo {
        let name = repo.folder_name();
        CachedRepo {
            folder: self.root.join(&name),
            locks: self.root.join(".locks").join(name),
        }
    }

    /// Marks the folder as a cache, for programs that make backups.
    ///
    /// # Errors
    /// The system's.
    pub(in crate::hub) fn tag(&self) -> Result<(), HubError> {
        let path = self.root.join("CACHEDIR.TAG");
        if path.exists() {
            return Ok(());
        }
        write(&path, TAG.as_bytes())
    }

    /// Whether a folder, which need not be there yet, lies outside the cache, whatever links lead to it.
    ///
    /// # Errors
    /// [`HubError::InTheCache`]; a working directory that is gone.
    pub fn check_outside(&self, folder: &Path) -> Result<(), HubError> {
        let [there, cache] = [folder, &self.root].map(|path| resolved(path).map_err(HubError::at(path)));
        let (there, cache) = (there?, cache?);
        if there.starts_with(&cache) {
            let folder = folder.to_owned();
            return Err(HubError::InTheCache { folder, cache });
        }
        Ok(())
    }

    /// The snapshot of a pulled repository: of the commit that its revision names or last stood for.
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
    /// Where its blobs lie.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// A content's place.
    #[must_use]
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    /// Its place until it is whole and checked.
    #[must_use]
    pub fn incomplete(&self, etag: &str) -> PathBuf {
        self.blobs().join(format!("{etag}.incomplete"))
    }

    /// The lock of a content.
    #[must_use]
    pub fn lock(&self, etag: &Etag) -> PathBuf {
        self.locks.join(format!("{}.lock", etag.as_str()))
    }

    /// A commit's folder of links.
    #[must_use]
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where what a commit holds is kept.
    #[must_use]
    pub fn tree(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// The commit that a revision is, or last stood for.
    #[must_use]
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The length of a file of a snapshot; nothing where it is not there, or its blob is not.
    #[must_use]
    pub fn has(&self, commit: &str, file: &str) -> Option<u64> {
        length(&self.snapshot(commit).join(file))
    }

    /// Makes the folders that a file needs.
    ///
    /// # Errors
    /// The system's.
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

    /// Puts a blob into a snapshot: a relative link, so that the cache can be moved.
    ///
    /// # Errors
    /// The system's.
    pub fn link(&self, commit: &str, file: &str, etag: &Etag) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.split('/').count() - 1);
        let target = PathBuf::from(format!("{up}blobs/{}", etag.as_str()));
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        renamed(&link, |work| std::os::unix::fs::symlink(&target, work))
    }

    /// Notes that a branch or a tag now stands for a commit.
    ///
    /// # Errors
    /// The system's.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        write(&path, commit.as_bytes())
    }
}

/// A path without links and `..`; the part of it that is not there yet is taken as it is written.
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

/// The length of a regular file, links followed.
#[must_use]
pub fn length(path: &Path) -> Option<u64> {
    fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(HubError::at(folder))?;
    }
    renamed(path, |work| fs::write(work, bytes))
}

/// Makes something beside its place first: a reader sees the old or the new.
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
