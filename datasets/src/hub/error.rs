//! Why a pull failed: what was asked, what was found, what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// No name of a repository.
    #[error("`{given}` is no OWNER/NAME[@REVISION]: {why}")]
    Name {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// An environment variable or the token's file.
    #[error("{name}: {why}")]
    Setting {
        /// The variable or file that the error is about.
        name: String,
        /// What was expected and found.
        why: String,
    },
    /// 401 or 403.
    #[error("the hub refused {what} with {status}{said}: {advice}")]
    Refused {
        /// The repository and, if one, the file.
        what: String,
        /// HTTP status.
        status: u16,
        /// The hub's own words, in brackets, or nothing.
        said: String,
        /// What to do.
        advice: String,
    },
    /// 404 of a repository.
    #[error(
        "no repository {id} at {page}{said}: check the name; a private one needs HF_TOKEN; a data set needs --dataset"
    )]
    NoRepository {
        /// Its name.
        id: String,
        /// Its page.
        page: String,
        /// The hub's own words, in brackets, or nothing.
        said: String,
    },
    /// 404 of a revision.
    #[error(
        "the repository {id} has no revision `{revision}`{said}: its branches and tags are at {page}/tree/main"
    )]
    NoRevision {
        /// The repository's name.
        id: String,
        /// What it lacks.
        revision: String,
        /// Its page.
        page: String,
        /// The hub's own words, in brackets, or nothing.
        said: String,
    },
    /// 404 that may be of either.
    #[error("the hub knows no {what}{said}: check the name and the revision")]
    Nothing {
        /// The repository with its revision.
        what: String,
        /// The hub's own words, in brackets, or nothing.
        said: String,
    },
    /// A file that is not in the repository.
    #[error("{repo} has no file `{file}`; {there}")]
    NoFile {
        /// The repository.
        repo: String,
        /// What was wanted.
        file: String,
        /// What there is.
        there: String,
    },
    /// Another status that waiting does not mend.
    #[error("the hub answered {what} with {status}{said}")]
    Status {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// The hub's own words, in brackets, or nothing.
        said: String,
    },
    /// It failed each time.
    #[error(
        "{what}: failed {tries} times, the last time: {last}; what has come is kept, the same command goes on from there"
    )]
    GaveUp {
        /// What was asked for.
        what: String,
        /// Tries.
        tries: u32,
        /// The last failure.
        last: String,
    },
    /// It asks for a wait that is too long to sit through.
    #[error("{what}: {why}; the hub asks to wait {} s before the next try: run the same command then", wait.as_secs())]
    TooBusy {
        /// What was asked for.
        what: String,
        /// How it failed.
        why: String,
        /// The wait.
        wait: Duration,
    },
    /// An answer that no hub gives.
    #[error("{what}: {why}; is {endpoint} a hub (HF_ENDPOINT), or is a proxy in between?")]
    NotAHub {
        /// What was asked for.
        what: String,
        /// What is missing or wrong.
        why: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A path that would leave the snapshot's folder, or that a terminal would obey.
    #[error(
        "{repo} lists the path `{}`, which leaves the folder it would be written to, or has characters that are not seen: nothing \
         is pulled", path.escape_debug()
    )]
    Path {
        /// The repository.
        repo: String,
        /// The path.
        path: String,
    },
    /// A file of another length than the hub says.
    #[error("{file}: expected {expected} bytes, the server sends {found}; try again later")]
    WrongSize {
        /// Its path.
        file: String,
        /// As its metadata says.
        expected: u64,
        /// As came.
        found: u64,
    },
    /// A file of another content than the hub says.
    #[error("{file}: expected {check} {expected}, what came has {found}; nothing of it is kept, try again")]
    WrongHash {
        /// Its path.
        file: String,
        /// Which hash.
        check: &'static str,
        /// As its metadata says.
        expected: String,
        /// As came.
        found: String,
    },
    /// Not enough room.
    #[error("{}: the disk is full ({free} bytes free, {needed} needed); make room or set HF_HUB_CACHE, the same command goes on from there", path.display())]
    DiskFull {
        /// The cache's folder.
        path: PathBuf,
        /// Bytes to come.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Not enough room for copies.
    #[error("{}: the disk is full ({free} bytes free, {needed} needed); make room or name another folder", path.display())]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A folder for plain files that is the cache's own.
    #[error(
        "{}: expected a folder outside the hub's cache {}, whose own files it would change; nothing was written: name another folder, or leave --to out and use the folder that is printed",
        folder.display(), cache.display()
    )]
    InTheCache {
        /// The folder that the files should go to.
        folder: PathBuf,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// Files that would be lost.
    #[error(
        "{}: {files}: something else has the name of what was pulled; nothing was written: move it away or name another folder",
        folder.display()
    )]
    InTheWay {
        /// The folder that the files should go to.
        folder: PathBuf,
        /// What is in the way there, by path.
        files: String,
    },
    /// A link in the folder for plain files, through which they would be written elsewhere.
    #[error(
        "{}: {} is a link, through which files would come to lie outside of the folder; nothing was written: remove it or name another folder",
        folder.display(), link.display()
    )]
    ThroughALink {
        /// The folder that the files should go to.
        folder: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// A file of the cache that is not what its name says.
    #[error(
        "{}: expected {check} {expected}, found {found}: it was changed in the cache; delete it and pull again",
        path.display()
    )]
    Spoilt {
        /// The cache's file.
        path: PathBuf,
        /// Which hash.
        check: &'static str,
        /// The one that it is named by.
        expected: String,
        /// The one that it has.
        found: String,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The variable or file that the error is about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not in the cache, and the hub is not asked.
    #[error("{missing} not in {}, and {why}", cache.display())]
    Offline {
        /// What is missing.
        missing: String,
        /// The cache's folder.
        cache: PathBuf,
        /// Why the hub is not asked.
        why: String,
    },
    /// A checkpoint that is neither a folder nor pulled.
    #[error("{given}: there is no such folder{advice}")]
    NoCheckpoint {
        /// As given.
        given: String,
        /// How to get it, where it could be a repository.
        advice: String,
    },
}

impl HubError {
    /// A failure at a path.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
