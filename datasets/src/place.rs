//! Where given data lies: as it is named, below the folder that `DEMASK_DATA` names, or where Debian's packages put it.

use std::path::{Path, PathBuf};

/// The environment variable.
pub const VARIABLE: &str = "DEMASK_DATA";

/// Where Debian's packages put data sets.
const DEBIAN: &str = "/usr/share/datasets";

/// The path as given when there is something at it, else the same below `DEMASK_DATA` or among Debian's data sets, else
/// as given.
#[must_use]
pub fn find(path: &Path) -> PathBuf {
    if path.exists() || path.is_absolute() {
        return path.to_owned();
    }
    let given = std::env::var_os(VARIABLE).map(PathBuf::from);
    let below = given.into_iter().chain([PathBuf::from(DEBIAN)]);
    below
        .map(|folder| folder.join(path))
        .find(|below| below.exists())
        .unwrap_or_else(|| path.to_owned())
}

/// The first of some places that is there.
///
/// # Errors
/// None is; says where was looked, and what to do.
pub fn first(what: &str, places: &[&str]) -> Result<PathBuf, String> {
    let found = places
        .iter()
        .map(|place| find(Path::new(place)))
        .find(|path| path.exists());
    found.ok_or_else(|| {
        format!(
            "{what} is at none of {}; name the folder that holds it in {VARIABLE}",
            places.join(", ")
        )
    })
}
