//! What was pulled as plain files of a folder: copies out of the cache, so that who changes one does not change the cache.
//!
//! The whole folder is looked at before anything is written. A file that has the right content stays as it is. One whose
//! content the cache has too, as that of an earlier revision, may give way: nothing is lost. Anything else in the way is
//! named and left.

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

/// How many of the files in the way are named.
const NAMED: usize = 3;

/// What became of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Laid {
    /// The folder.
    pub folder: PathBuf,
    /// Files that were written, by path.
    pub written: Vec<String>,
    /// Files that were there with the right content.
    pub kept: Vec<String>,
}

/// What has a file's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilePlace {
    /// Nothing, or what the cache has too.
    Free,
    /// The file.
    Right,
    /// Something that would be lost.
    Taken,
}

impl Pulled {
    /// Puts the files into a folder. Each is copied beside its place, its hash compared, then named.
    ///
    /// # Errors
    /// [`HubError::InTheCache`], [`HubError::InTheWay`], [`HubError::ThroughALink`], [`HubError::NoRoom`]: nothing is written; [`HubError::Spoilt`];
    /// the system's.
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
        // It is there also when there is nothing to write.
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

    /// None of the files may come to lie in the cache that they are copied from, not by way of a link below the folder either.
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

    /// What a file's content is called in the cache; nothing where the cache has it under no such name.
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
            // A link to the same content, as into the cache, becomes a file.
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

    /// Whether the cache has a file's content, of whatever revision of the repository.
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

/// The first folder between this one and the place of a file that is a link: what is written would come to lie elsewhere.
fn link_on_the_way(folder: &Path, file: &str) -> Option<PathBuf> {
    let parents = Path::new(file).ancestors().skip(1);
    let mut parents: Vec<PathBuf> = parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .map(|parent| folder.join(parent))
        .collect();
    parents.reverse();
    parents.into_iter().find(|parent| parent.is_symlink())
}

/// Copies a file's bytes, compares the hash of the copy, then names it. What fails leaves nothing.
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

/// A new file beside a place, under a name that nothing has, with the mode that a program's files usually have: the cache's
/// may be for reading alone. The hash is compared and the name given at once, so two pulls need no lock.
fn beside(place: &Path) -> io::Result<NamedTempFile> {
    let (prefix, suffix) = work_file::around(place);
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(suffix)
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(place.parent().unwrap_or(Path::new(".")))
}

/// Is there room for the copies?
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
