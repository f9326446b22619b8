//! Resolves the argument of `--checkpoint`: a local folder, or the snapshot of a pulled repository.

use std::path::{Path, PathBuf};

use crate::hub::{Cache, HubError, Repo, RepoKind};

/// Returns the absolute path of an existing folder, else the snapshot of `OWNER/NAME[@REVISION]` in the hub's cache.
/// Nothing is fetched.
///
/// # Errors
/// [`HubError::NoCheckpoint`] if neither exists; it names the command that would pull the repository.
pub fn checkpoint_folder(given: &Path, cache: &Cache) -> Result<PathBuf, HubError> {
    if given.exists() {
        return std::path::absolute(given).map_err(HubError::at(given));
    }
    let name = given.to_string_lossy();
    let advice = match Repo::parse(&name, RepoKind::Model) {
        Ok(repo) => match cache.snapshot(&repo) {
            Some(snapshot) => return Ok(snapshot),
            None => format!(
                ", and no pulled repository of that name in {}: run `{}` first",
                cache.root.display(),
                repo.command()
            ),
        },
        Err(_) => String::new(),
    };
    Err(HubError::NoCheckpoint {
        given: name.into_owned(),
        advice,
    })
}
