//! What was pulled as plain files of a folder: copies out of the cache, so that who changes one does not change the cache.
//!
//! The whole folder is looked at before anything is written. A file that has the right content stays as it is. One whose
//! content the cache has too, as that of an earlier revision, may give way: nothing is lost. Anything else in the way is
//! named and left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::blob::free;
use super::cache::length;
use super::etag::{Etag, git_sha1, sha256};
use super::lock::Lock;
use super::{Event, HubError, Pulled, PulledFile, Watch};

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
enum Place {
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
    /// [`HubError::InTheWay`], [`HubError::NoRoom`]: nothing is written; [`HubError::Spoilt`]; the system's.
    pub async fn lay_into(&self, folder: &Path, watch: &dyn Watch) -> Result<Laid, HubError> {
        let folder = std::path::absolute(folder).map_err(HubError::at(folder))?;
        let (mut kept, mut to_write, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for file in &self.files {
            match self.place(&folder, file)? {
                Place::Right => kept.push(file.file.clone()),
                Place::Free => to_write.push(file),
                Place::Taken => taken.push(file.file.as_str()),
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
            self.write(&folder, &file.file, watch).await?;
            written.push(file.file.clone());
        }
        Ok(Laid {
            folder,
            written,
            kept,
        })
    }

    /// What a file's content is called in the cache; nothing where the cache has it under no such name.
    fn etag(&self, file: &str) -> Option<Etag> {
        let blob = fs::read_link(self.snapshot.join(file)).ok()?;
        Etag::parse(blob.file_name()?.to_str()?).filter(|etag| etag.check().is_some())
    }

    fn place(&self, folder: &Path, file: &PulledFile) -> Result<Place, HubError> {
        let path = folder.join(&file.file);
        let itself = match fs::symlink_metadata(&path) {
            Ok(itself) => itself,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Free),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Place::Taken),
            Err(error) => return Err(HubError::at(&path)(error)),
        };
        let Some(bytes) = length(&path) else {
            return Ok(Place::Taken);
        };
        let same = bytes == file.bytes && self.same(&file.file, &path).map_err(HubError::at(&path))?;
        Ok(match (same, itself.is_symlink()) {
            (true, false) => Place::Right,
            // A link to the same content, as into the cache, becomes a file.
            (true, true) => Place::Free,
            _ if self.in_cache(&path, bytes).map_err(HubError::at(&path))? => Place::Free,
            _ => Place::Taken,
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

    async fn write(&self, folder: &Path, file: &str, watch: &dyn Watch) -> Result<(), HubError> {
        let path = folder.join(file);
        let beside = path.parent().unwrap_or(folder);
        fs::create_dir_all(beside).map_err(HubError::at(beside))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!(".{name}.part"));
        let lock = Lock::take(&part, || watch.saw(Event::Held { file })).await;
        let _lock = lock.map_err(HubError::at(&part))?;
        let (from, etag, work) = (self.snapshot.join(file), self.etag(file), part.clone());
        let copied = tokio::task::spawn_blocking(move || copy(&from, etag.as_ref(), &work)).await;
        let copied = copied
            .map_err(|error| HubError::at(&part)(io::Error::other(error)))
            .flatten()
            .and_then(|()| fs::rename(&part, &path).map_err(HubError::at(&path)));
        if copied.is_err() {
            // What failed is told; that its rest may stay is not worth telling beside it.
            let _ = fs::remove_file(&part);
        }
        copied
    }
}

/// Copies a file and compares the hash of the copy.
fn copy(from: &Path, etag: Option<&Etag>, to: &Path) -> Result<(), HubError> {
    fs::copy(from, to).map_err(HubError::at(to))?;
    let Some(etag) = etag else { return Ok(()) };
    match etag.of_file(to).map_err(HubError::at(to))? {
        Some(found) if found != etag.as_str() => Err(HubError::Spoilt {
            path: fs::canonicalize(from).unwrap_or_else(|_| from.to_owned()),
            check: etag.check().unwrap_or_default(),
            expected: etag.as_str().to_owned(),
            found,
        }),
        _ => Ok(()),
    }
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
