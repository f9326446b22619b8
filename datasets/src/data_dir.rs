//! Where given data lies: as it is named, below the folder that `DEMASK_DATA` names, or where Debian's packages put it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::formats::shards::is_there;
use crate::hub::{Cache, HubError, Repo, RepoKind};

/// The environment variable.
pub const VARIABLE: &str = "DEMASK_DATA";

/// Where Debian's packages put data sets.
const DEBIAN: &str = "/usr/share/datasets";

/// The folder of the run that this process has under way.
static FOLDER: RwLock<Option<PathBuf>> = RwLock::new(None);

thread_local! {
    /// The folder of what is looked for on this thread alone.
    static HERE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    /// The folder that this thread looks in before all else.
    static ONLY: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// From now on this folder stands for the one that `DEMASK_DATA` names: a daemon was started in another environment than
/// the run that it has under way. None: the variable's again.
pub fn use_folder(folder: Option<PathBuf>) {
    *FOLDER.write().unwrap_or_else(PoisonError::into_inner) = folder;
}

/// What is seen where this folder stands for the one that `DEMASK_DATA` names, on this thread and for this look alone. None:
/// the usual one.
pub fn within<T>(folder: Option<PathBuf>, look: impl FnOnce() -> T) -> T {
    let before = HERE.replace(folder);
    let seen = look();
    HERE.set(before);
    seen
}

/// What is seen where data is looked for in this folder before all else, on this thread and for this look alone.
pub fn only<T>(folder: PathBuf, look: impl FnOnce() -> T) -> T {
    let before = ONLY.replace(Some(folder));
    let seen = look();
    ONLY.set(before);
    seen
}

/// Whether data is looked for in one folder before all else ([`only`]).
#[must_use]
pub fn is_narrowed() -> bool {
    ONLY.with_borrow(Option::is_some)
}

/// The folder that data is looked for in.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    if let Some(here) = HERE.with_borrow(Clone::clone) {
        return Some(here);
    }
    let set = FOLDER.read().unwrap_or_else(PoisonError::into_inner).clone();
    set.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from))
}

/// The folder of a data set of the hub that was pulled. Else the path as given when there is something at it, or under its
/// pattern, else the same below `DEMASK_DATA` or among Debian's data sets, else
/// as given.
#[must_use]
pub fn find(path: &Path) -> PathBuf {
    if let Some(only) = ONLY.with_borrow(Clone::clone).map(|only| only.join(path))
        && is_there(&only)
    {
        return only;
    }
    if let Some(pulled) = pulled(path) {
        return pulled;
    }
    if is_there(path) || path.is_absolute() {
        return path.to_owned();
    }
    let below = folder().into_iter().chain([PathBuf::from(DEBIAN)]);
    below
        .map(|folder| folder.join(path))
        .find(|below| is_there(below))
        .unwrap_or_else(|| path.to_owned())
}

/// What a path begins with that names a data set of the hub: `hub:OWNER/NAME[@REVISION][:PATH]`.
pub const HUB: &str = "hub:";

/// The data set of the hub that a path names, and the path in it.
///
/// # Errors
/// A name that the hub would not take.
pub fn on_hub(path: &Path) -> Option<Result<(Repo, String), HubError>> {
    let named = path.to_str()?.strip_prefix(HUB)?;
    let (name, inside) = named.split_once(':').unwrap_or((named, ""));
    Some(Repo::parse(name, RepoKind::Dataset).map(|repo| (repo, inside.to_owned())))
}

/// The folder of a data set of the hub that was pulled, or the path in it.
fn pulled(path: &Path) -> Option<PathBuf> {
    let (repo, inside) = on_hub(path)?.ok()?;
    let snapshot = Cache::of_environment().snapshot(&repo)?;
    Some(if inside.is_empty() {
        snapshot
    } else {
        snapshot.join(inside)
    })
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
