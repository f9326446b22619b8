//! Finds the files of a data set: at the path as given, below the folder named by `DEMASK_DATA`, among Debian's data
//! packages, or in the cache of pulled Hugging Face data sets.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::formats::shards::is_there;
use crate::hub::{Cache, HubError, Repo, RepoKind};

/// The environment variable that names the data folder.
pub const VARIABLE: &str = "DEMASK_DATA";

/// The folder in which Debian's packages install data sets.
const DEBIAN: &str = "/usr/share/datasets";

/// The data folder of the run that this process executes; it overrides the environment variable.
static FOLDER: RwLock<Option<PathBuf>> = RwLock::new(None);

thread_local! {
    /// The data folder for the current thread only ([`within`]).
    static HERE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    /// The folder that the current thread searches before every other place ([`only`]).
    static ONLY: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Makes `folder` stand for the folder named by `DEMASK_DATA`, for the whole process.
///
/// A daemon may have been started in another environment than the client that asks for a run; the run brings its own
/// data folder. `None` restores the environment variable.
pub fn use_folder(folder: Option<PathBuf>) {
    *FOLDER.write().unwrap_or_else(PoisonError::into_inner) = folder;
}

/// Returns the result of `look`, called with `folder` in the place of the folder named by `DEMASK_DATA`. The
/// replacement holds for this thread and this call only. `None` keeps the usual folder.
pub fn within<T>(folder: Option<PathBuf>, look: impl FnOnce() -> T) -> T {
    let before = HERE.replace(folder);
    let seen = look();
    HERE.set(before);
    seen
}

/// Returns the result of `look`, called with data searched in `folder` before any other place, for this thread and this
/// call only.
pub fn only<T>(folder: PathBuf, look: impl FnOnce() -> T) -> T {
    let before = ONLY.replace(Some(folder));
    let seen = look();
    ONLY.set(before);
    seen
}

/// Whether this thread searches one folder before all other places ([`only`]).
#[must_use]
pub fn is_narrowed() -> bool {
    ONLY.with_borrow(Option::is_some)
}

/// Returns the folder in which relative paths are searched: the thread's, else the process's, else `DEMASK_DATA`'s.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    if let Some(here) = HERE.with_borrow(Clone::clone) {
        return Some(here);
    }
    let set = FOLDER.read().unwrap_or_else(PoisonError::into_inner).clone();
    set.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from))
}

/// Resolves a path of a data set to the place where it exists.
///
/// A path `hub:…` resolves to the folder of the pulled data set. Any other path is returned as given when a file, a
/// folder or a match of its pattern exists there. Otherwise it is searched below the data folder, then among Debian's
/// data sets. A path that exists nowhere is returned as given.
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

/// The prefix of a path that names a data set of the Hugging Face hub: `hub:OWNER/NAME[@REVISION][:PATH]`.
pub const HUB: &str = "hub:";

/// Returns the hub data set that a path names and the path inside it; `None` for a path without the prefix [`HUB`].
///
/// # Errors
/// An error if the hub would not accept the data set's name.
pub fn on_hub(path: &Path) -> Option<Result<(Repo, String), HubError>> {
    let named = path.to_str()?.strip_prefix(HUB)?;
    let (name, inside) = named.split_once(':').unwrap_or((named, ""));
    Some(Repo::parse(name, RepoKind::Dataset).map(|repo| (repo, inside.to_owned())))
}

/// Returns the local folder of a pulled hub data set, or the path inside it; `None` if it was not pulled.
fn pulled(path: &Path) -> Option<PathBuf> {
    let (repo, inside) = on_hub(path)?.ok()?;
    let snapshot = Cache::of_environment().snapshot(&repo)?;
    Some(if inside.is_empty() {
        snapshot
    } else {
        snapshot.join(inside)
    })
}

/// Returns the first of several places that exists.
///
/// # Errors
/// An error if none exists; it lists the searched places and names the variable to set.
pub fn first(what: &str, places: &[&str]) -> Result<PathBuf, String> {
    let found = places
        .iter()
        .map(|place| find(Path::new(place)))
        .find(|path| path.exists());
    found.ok_or_else(|| {
        format!(
            "cannot find {what}; looked in {}; set {VARIABLE} to the folder that contains it",
            places.join(", ")
        )
    })
}
