//! Copies of pulled files in a plain folder. They are copies rather than links, so that editing one does not change the
//! cache.
//!
//! The whole destination is checked before anything is written. A file that already has the right content is kept. A
//! file whose content is also in the cache, such as one of an earlier revision, is overwritten: nothing is lost. Any
//! other file in the way is reported and left alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use demask_api::work_file;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::hub::local::blob::free;
use crate::hub::local::cache::{Cache, length};
use crate::hub::wire::etag::{Etag, git_sha1, sha256};
use crate::hub::{HubError, Pulled, PulledFile};

/// The number of files in the way that an error names.
const NAMED: usize = 3;

/// The result of copying into a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Laid {
    /// The folder.
    pub folder: PathBuf,
    /// Files that were written, by path.
    pub written: Vec<String>,
    /// Files that already had the right content, by path.
    pub kept: Vec<String>,
}

/// What is at the destination of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilePlace {
    /// Nothing, or content that the cache has too.
    Free,
    /// The file with the right content.
    Right,
    /// Content that would be lost.
    Taken,
}

impl Pulled {
    /// Copies the pulled files into a folder. Each is copied under a temporary name, verified by its hash, then
    /// renamed.
    ///
    /// # Errors
    /// [`HubError::InTheCache`], [`HubError::InTheWay`], [`HubError::ThroughALink`] and [`HubError::NoRoom`], before
    /// anything is written; [`HubError::Spoilt`]; any I/O error.
    pub async fn lay_into(&self, folder: &Path) -> Result<Laid, HubError> {
        let folder = std::path::absolute(folder).map_err(HubError::at(folder))?;
        self.check_outside(&folder)?;
        let (mut kept, mut to_write, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for file in &self.files {
            match self.place(&folder, file)? {
                FilePlace::Right => kept.push(file.file.clone()),
                FilePlace::Free => to_write.push(file),
                FilePlace::Taken => taken.push(file.file.as_str()),
            }
        }
        if !taken.is_empty() {
            let files = named(&taken);
            return Err(HubError::InTheWay { folder, files });
        }
        room(&folder, &to_write)?;
        // The folder is created even if there is no file to write.
        fs::create_dir_all(&folder).map_err(HubError::at(&folder))?;
        let mut written = Vec::new();
        for file in to_write {
            self.write(&folder, &file.file).await?;
            written.push(file.file.clone());
        }
        Ok(Laid {
            folder,
            written,
            kept,
        })
    }

    /// Checks that no file would be written into the cache that it is copied from, not even through a link below the
    /// folder.
    fn check_outside(&self, folder: &Path) -> Result<(), HubError> {
        let root = self.snapshot.join("../../..");
        let cache = Cache {
            root: fs::canonicalize(&root).map_err(HubError::at(&root))?,
        };
        let paths = self.files.iter().map(|file| folder.join(&file.file));
        let folders: BTreeSet<PathBuf> = paths.filter_map(|path| Some(path.parent()?.to_owned())).collect();
        cache.check_outside(folder)?;
        folders.iter().try_for_each(|folder| cache.check_outside(folder))
    }

    /// Returns the etag of a file's content; `None` if the cache names it by none that can be verified.
    fn etag(&self, file: &str) -> Option<Etag> {
        let blob = fs::read_link(self.snapshot.join(file)).ok()?;
        Etag::parse(blob.file_name()?.to_str()?).filter(|etag| etag.check().is_some())
    }

    fn place(&self, folder: &Path, file: &PulledFile) -> Result<FilePlace, HubError> {
        if let Some(link) = link_on_the_way(folder, &file.file) {
            return Err(HubError::ThroughALink {
                folder: folder.to_owned(),
                link,
            });
        }
        let path = folder.join(&file.file);
        let itself = match fs::symlink_metadata(&path) {
            Ok(itself) => itself,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FilePlace::Free),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(FilePlace::Taken),
            Err(error) => return Err(HubError::at(&path)(error)),
        };
        let Some(bytes) = length(&path) else {
            return Ok(FilePlace::Taken);
        };
        let same = bytes == file.bytes && self.same(&file.file, &path).map_err(HubError::at(&path))?;
        Ok(match (same, itself.is_symlink()) {
            (true, false) => FilePlace::Right,
            // A link to the right content, such as one into the cache, is replaced by a file.
            (true, true) => FilePlace::Free,
            _ if self.in_cache(&path, bytes).map_err(HubError::at(&path))? => FilePlace::Free,
            _ => FilePlace::Taken,
        })
    }

    fn same(&self, file: &str, path: &Path) -> io::Result<bool> {
        match self.etag(file) {
            Some(etag) => Ok(etag.of_file(path)?.as_deref() == Some(etag.as_str())),
            None => Ok(sha256(path)? == sha256(&self.snapshot.join(file))?),
        }
    }

    /// Whether the cache has a file's content, in any revision of the repository.
    fn in_cache(&self, path: &Path, bytes: u64) -> io::Result<bool> {
        let blobs = self.snapshot.join("../../blobs");
        let has = |name: String| length(&blobs.join(name)) == Some(bytes);
        Ok(has(git_sha1(path)?) || has(sha256(path)?))
    }

    async fn write(&self, folder: &Path, file: &str) -> Result<(), HubError> {
        let path = folder.join(file);
        let beside = path.parent().unwrap_or(folder);
        fs::create_dir_all(beside).map_err(HubError::at(beside))?;
        let (from, etag, to) = (self.snapshot.join(file), self.etag(file), path.clone());
        let copied = tokio::task::spawn_blocking(move || copy(&from, etag.as_ref(), &to)).await;
        copied
            .map_err(|error| HubError::at(&path)(io::Error::other(error)))
            .flatten()
    }
}

/// Returns the first folder on the way from `folder` to a file that is a symbolic link; the file would be written
/// elsewhere.
fn link_on_the_way(folder: &Path, file: &str) -> Option<PathBuf> {
    let parents = Path::new(file).ancestors().skip(1);
    let mut parents: Vec<PathBuf> = parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .map(|parent| folder.join(parent))
        .collect();
    parents.reverse();
    parents.into_iter().find(|parent| parent.is_symlink())
}

/// Copies a file, verifies the hash of the copy, then renames it. On failure no file is left.
fn copy(from: &Path, etag: Option<&Etag>, to: &Path) -> Result<(), HubError> {
    work_file::sweep(to);
    let work = beside(to).map_err(HubError::at(to))?;
    let mut bytes = File::open(from).map_err(HubError::at(from))?;
    io::copy(&mut bytes, &mut work.as_file()).map_err(HubError::at(work.path()))?;
    if let Some(etag) = etag {
        let found = etag.of_file(work.path()).map_err(HubError::at(work.path()))?;
        if let Some(found) = found.filter(|found| found != etag.as_str()) {
            return Err(HubError::Spoilt {
                path: fs::canonicalize(from).unwrap_or_else(|_| from.to_owned()),
                check: etag.check().unwrap_or_default(),
                expected: etag.as_str().to_owned(),
                found,
            });
        }
    }
    work.persist(to).map_err(|error| HubError::at(to)(error.error))?;
    Ok(())
}

/// Creates a temporary file beside its destination. It gets the usual permissions of new files, because the cache's
/// files may be read-only. The copy is verified and renamed at once, so two pulls need no lock.
fn beside(place: &Path) -> io::Result<NamedTempFile> {
    let (prefix, suffix) = work_file::around(place);
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(suffix)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(place.parent().unwrap_or(Path::new(".")))
}

/// Checks that the disk has space for the copies.
fn room(folder: &Path, files: &[&PulledFile]) -> Result<(), HubError> {
    let needed = files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    match free(folder) {
        Some(free) if free < needed => Err(HubError::NoRoom {
            path: folder.to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

fn named(files: &[&str]) -> String {
    let some = files[..files.len().min(NAMED)].join(", ");
    match files.len().saturating_sub(NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}
