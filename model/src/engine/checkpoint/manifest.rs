//! The manifest of a checkpoint folder: it is written last, and every file is checked against it when read.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use demask_api::checkpoint::{ADAPTER_CONFIG, CONFIG, MANIFEST, OPTIMIZER};
use demask_api::{Manifest, ManifestFile, bounded_file, limits};

use crate::device::heartbeat;
use crate::error::{ModelError, Result};

/// The result of writing a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The BLAKE3 hash of the manifest, in hex.
    pub hash: String,
    /// The size in bytes of all files that the manifest lists.
    pub bytes: u64,
}

/// Checks every file against the manifest and returns the names that it lists. A folder without a manifest (a
/// published model) passes, and the list is empty.
///
/// # Errors
/// Returns an error that names the first file that is missing, truncated or changed, with the expected and
/// the found value.
pub fn check_manifest(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(MANIFEST);
    let text = match bounded_file::read_text(&path, limits::LONGEST_CONFIG) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return without_manifest(dir),
        Err(error) => return Err(ModelError::io(&path, error)),
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(&path, format!("this is not a manifest: {error}")))?;
    if manifest.version != 1 {
        let message = format!("the layout version is {}, expected 1", manifest.version);
        return Err(ModelError::checkpoint(&path, message));
    }
    if manifest.files.len() > limits::MOST_FILES {
        let message = format!(
            "it lists {} files, expected at most {}",
            manifest.files.len(),
            limits::MOST_FILES
        );
        return Err(ModelError::checkpoint(&path, message));
    }
    if let Some(outside) = manifest.files.iter().find(|file| !file.is_inside()) {
        let message = format!(
            "it lists {:?}, expected names of files in its folder",
            outside.name
        );
        return Err(ModelError::checkpoint(&path, message));
    }
    manifest.files.iter().try_for_each(|file| check_file(dir, file))?;
    Ok(manifest.files.into_iter().map(|file| file.name).collect())
}

fn without_manifest(dir: &Path) -> Result<Vec<String>> {
    let named = |message: String| Err(ModelError::checkpoint(dir, message));
    if !dir.is_dir() {
        return named("there is no such folder".into());
    }
    if dir.join(OPTIMIZER).exists() {
        return named(format!("{MANIFEST} is missing, so the checkpoint is incomplete"));
    }
    if !dir.join(CONFIG).is_file() && !dir.join(ADAPTER_CONFIG).is_file() {
        return named(format!(
            "it has neither {MANIFEST} nor {CONFIG}, so it is not a checkpoint"
        ));
    }
    Ok(Vec::new())
}

fn check_file(dir: &Path, file: &ManifestFile) -> Result<()> {
    let path = dir.join(&file.name);
    let named = |message: String| Err(ModelError::checkpoint(&path, message));
    let found = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return named("expected a regular file".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return named(format!(
                "the file is missing; the manifest lists it with {} bytes",
                file.bytes
            ));
        }
        Err(error) => return Err(ModelError::io(&path, error)),
    };
    let expected = file.bytes;
    if found != expected {
        let how = if found < expected {
            "is truncated"
        } else {
            "has grown"
        };
        return named(format!(
            "it has {found} bytes, but the manifest says {expected}: the file {how}"
        ));
    }
    let (_, found) = digest(&path).map_err(|source| ModelError::io(&path, source))?;
    if found != file.blake3 {
        return named(format!(
            "its BLAKE3 hash is {found}, but the manifest says {}: the file was changed",
            file.blake3
        ));
    }
    Ok(())
}

/// Writes the manifest of these files, which are flushed to disk first.
pub(super) fn write_manifest(work: &Path, names: Vec<String>, step: u64) -> Result<Saved> {
    let files: Vec<ManifestFile> = names
        .into_iter()
        .map(|name| describe(work, name))
        .collect::<Result<_>>()?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let manifest = Manifest {
        version: 1,
        step,
        files,
    };
    let path = work.join(MANIFEST);
    write_json(&path, &manifest)?;
    sync(&path)?;
    sync(work)?;
    let text = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
    Ok(Saved {
        hash: blake3::hash(&text).to_hex().to_string(),
        bytes,
    })
}

fn describe(dir: &Path, name: String) -> Result<ManifestFile> {
    let path = dir.join(&name);
    sync(&path)?;
    let (bytes, blake3) = digest(&path).map_err(|source| ModelError::io(&path, source))?;
    Ok(ManifestFile { name, bytes, blake3 })
}

/// The number of bytes hashed between two heartbeats.
const HASHED_AT_ONCE: usize = 4 << 20;

/// Returns a file's size in bytes and its BLAKE3 hash in hex. The file is read in pieces.
fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut hasher, mut file) = (blake3::Hasher::new(), File::open(path)?);
    let mut piece = vec![0; HASHED_AT_ONCE];
    loop {
        heartbeat::beat();
        match file.read(&mut piece)? {
            0 => break,
            length => hasher.update(&piece[..length]),
        };
    }
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

/// Writes a value as JSON.
pub(super) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| ModelError::checkpoint(path, error.to_string()))?;
    std::fs::write(path, text).map_err(|source| ModelError::io(path, source))
}

/// Flushes a file or a folder to disk.
pub(super) fn sync(path: &Path) -> Result<()> {
    heartbeat::beat();
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| ModelError::io(path, source))
}
