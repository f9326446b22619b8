//! A folder that a flag names, which may be a repository that was pulled.

use std::path::{Path, PathBuf};

use demask_datasets::hub::{Cache, checkpoint_folder};

/// The folder that a flag names, or the one of a repository that was pulled.
///
/// # Errors
/// Neither is there, with the flag and the command that would pull it.
pub fn pulled(flag: &str, named: &Path) -> anyhow::Result<PathBuf> {
    let folder = checkpoint_folder(named, &Cache::of_environment());
    let folder = folder.map_err(|error| anyhow::anyhow!("{flag} {error}"))?;
    Ok(std::path::absolute(folder)?)
}
