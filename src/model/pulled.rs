//! A folder that a flag names, which may be a repository that was pulled, or a checkpoint of a run.

use std::path::{Path, PathBuf};

use demask_actors::home::Home;
use demask_actors::run::named_checkpoint::NamedCheckpoint;
use demask_datasets::hub::{Cache, checkpoint_folder};

/// The folder that a flag names, the one of a repository that was pulled, or that of a run's checkpoint, in this order.
///
/// # Errors
/// None of them is there, with the flag and the command that would pull it; a run that has no such checkpoint.
pub fn pulled(home: &Home, flag: &str, named: &Path) -> anyhow::Result<PathBuf> {
    let error = match checkpoint_folder(named, &Cache::of_environment()) {
        Ok(folder) => return Ok(std::path::absolute(folder)?),
        Err(error) => error,
    };
    match NamedCheckpoint::find(home, &named.to_string_lossy()) {
        Ok(checkpoint) => Ok(checkpoint.folder),
        Err(wrong) if wrong.is_no_run() => {
            anyhow::bail!("{flag} {error}, and no run is named so (`demask runs list`)")
        }
        Err(wrong) => anyhow::bail!("{flag}: {wrong}"),
    }
}
