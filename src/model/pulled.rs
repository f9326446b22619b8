//! The resolution of a folder that a flag names: a path, a pulled repository, or a checkpoint of a run.

use std::path::{Path, PathBuf};

use demask_actors::home::Home;
use demask_actors::run::named_checkpoint::NamedCheckpoint;
use demask_datasets::hub::{Cache, checkpoint_folder};

/// Returns the folder that a flag names: that path, else that of a pulled repository, else that of a run's checkpoint.
///
/// # Errors
/// An error if none of them exists, with the flag and the command that would pull it, or if the run has no such
/// checkpoint.
pub fn pulled(home: &Home, flag: &str, named: &Path) -> anyhow::Result<PathBuf> {
    let error = match checkpoint_folder(named, &Cache::of_environment()) {
        Ok(folder) => return Ok(std::path::absolute(folder)?),
        Err(error) => error,
    };
    match NamedCheckpoint::find(home, &named.to_string_lossy()) {
        Ok(checkpoint) => Ok(checkpoint.folder),
        Err(wrong) if wrong.is_no_run() => {
            anyhow::bail!("{flag} {error}, and there is no run of that name (`demask runs list`)")
        }
        Err(wrong) => anyhow::bail!("{flag}: {wrong}"),
    }
}
