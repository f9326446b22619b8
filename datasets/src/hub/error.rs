//! The errors of a pull: what was asked, what was found, what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A malformed repository name.
    #[error("`{given}` is not of the form OWNER/NAME[@REVISION]: {why}")]
    Name {
        /// The name as given.
        given: String,
        /// What is wrong with the name.
        why: String,
    },
    /// An invalid environment variable or token file.
    #[error("{name}: {why}")]
    Setting {
        /// The variable or file.
        name: String,
        /// What was expected and what was found.
        why: String,
    },
    /// Status 401 or 403.
    #[error("the hub refused {what} with {status}{said}: {advice}")]
    Refused {
        /// The repository and, if any, the file.
        what: String,
        /// HTTP status.
        status: u16,
        /// The hub's own message in brackets; may be empty.
        said: String,
        /// What to do.
        advice: String,
    },
    /// Status 404 for a repository.
    #[error(
        "there is no repository {id} at {page}{said}: check the name; for a private repository set HF_TOKEN, for a data set give --dataset"
    )]
    NoRepository {
        /// The repository's name.
        id: String,
        /// The address of its page.
        page: String,
        /// The hub's own message in brackets; may be empty.
        said: String,
    },
    /// Status 404 for a revision.
    #[error(
        "the repository {id} has no revision `{revision}`{said}: {page}/tree/main lists its branches and tags"
    )]
    NoRevision {
        /// The repository's name.
        id: String,
        /// The missing revision.
        revision: String,
        /// The address of the repository's page.
        page: String,
        /// The hub's own message in brackets; may be empty.
        said: String,
    },
    /// Status 404 that may concern the repository or the revision.
    #[error("the hub does not know {what}{said}: check the name and the revision")]
    Nothing {
        /// The repository with its revision.
        what: String,
        /// The hub's own message in brackets; may be empty.
        said: String,
    },
    /// A file that the repository does not have.
    #[error("{repo} has no file `{file}`; {there}")]
    NoFile {
        /// The repository.
        repo: String,
        /// The wanted file.
        file: String,
        /// A sentence that lists the existing files.
        there: String,
    },
    /// Another status that retrying does not change.
    #[error("the hub answered {what} with {status}{said}")]
    Status {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// The hub's own message in brackets; may be empty.
        said: String,
    },
    /// Too many failed tries in a row.
    #[error(
        "{what}: failed {tries} times; the last failure: {last}; the received bytes are kept: run the same command again to continue"
    )]
    GaveUp {
        /// What was asked for.
        what: String,
        /// The number of tries.
        tries: u32,
        /// The last failure.
        last: String,
    },
    /// The hub asks for a longer wait than the policy allows.
    #[error("{what}: {why}; the hub asks to wait {} s before the next try: run the same command again after that", wait.as_secs())]
    TooBusy {
        /// What was asked for.
        what: String,
        /// Why the try failed.
        why: String,
        /// The requested wait.
        wait: Duration,
    },
    /// An answer that does not follow the hub's protocol.
    #[error("{what}: {why}; is {endpoint} a hub (HF_ENDPOINT), or is a proxy in between?")]
    NotAHub {
        /// What was asked for.
        what: String,
        /// What is missing or wrong.
        why: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A path that would leave the snapshot's folder, or that contains terminal control characters.
    #[error(
        "{repo} lists the path `{}`, which leads out of the destination folder or contains invisible characters; nothing was \
         pulled", path.escape_debug()
    )]
    Path {
        /// The repository.
        repo: String,
        /// The path as listed.
        path: String,
    },
    /// A file whose length differs from the hub's metadata.
    #[error("{file}: expected {expected} bytes, but the server sends {found}; try again later")]
    WrongSize {
        /// The file's path.
        file: String,
        /// The length in the metadata.
        expected: u64,
        /// The received length.
        found: u64,
    },
    /// A file whose hash differs from the hub's metadata.
    #[error(
        "{file}: expected {check} {expected}, but the received bytes have {found}; the file was discarded: try again"
    )]
    WrongHash {
        /// The file's path.
        file: String,
        /// The kind of hash.
        check: &'static str,
        /// The hash in the metadata.
        expected: String,
        /// The hash of the received bytes.
        found: String,
    },
    /// Too little disk space for a pull.
    #[error("{}: the disk is full ({free} bytes free, {needed} needed): free some space or set HF_HUB_CACHE to another folder, then run the same command again to continue", path.display())]
    DiskFull {
        /// The cache's folder.
        path: PathBuf,
        /// Number of bytes to fetch.
        needed: u64,
        /// Number of free bytes.
        free: u64,
    },
    /// Too little disk space for copies.
    #[error("{}: the disk is full ({free} bytes free, {needed} needed): free some space or name another folder", path.display())]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// Number of bytes to write.
        needed: u64,
        /// Number of free bytes.
        free: u64,
    },
    /// A destination folder that lies inside the cache.
    #[error(
        "{}: expected a folder outside the hub's cache {}, because a copy would change the cache's own files; nothing was written: name another folder, or leave out --to and use the printed folder",
        folder.display(), cache.display()
    )]
    InTheCache {
        /// The destination folder.
        folder: PathBuf,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// Existing files that would be lost.
    #[error(
        "{}: {files}: these names are taken by something other than the pulled files; nothing was written: move it away or name another folder",
        folder.display()
    )]
    InTheWay {
        /// The destination folder.
        folder: PathBuf,
        /// The files in the way, by path.
        files: String,
    },
    /// A symbolic link in the destination folder, through which files would be written elsewhere.
    #[error(
        "{}: {} is a symbolic link, so files would be written outside the folder; nothing was written: remove the link or name another folder",
        folder.display(), link.display()
    )]
    ThroughALink {
        /// The destination folder.
        folder: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// A file of the cache whose content does not match its name.
    #[error(
        "{}: expected {check} {expected}, found {found}: the file was changed in the cache; delete it and pull again",
        path.display()
    )]
    Spoilt {
        /// The file.
        path: PathBuf,
        /// The kind of hash.
        check: &'static str,
        /// The hash in its name.
        expected: String,
        /// The hash of its content.
        found: String,
    },
    /// An I/O error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Something is not in the cache, and the hub cannot be asked.
    #[error("{missing} not in the cache {}, and {why}", cache.display())]
    Offline {
        /// What is missing.
        missing: String,
        /// The cache's folder.
        cache: PathBuf,
        /// Why the hub cannot be asked.
        why: String,
    },
    /// A checkpoint that is neither a folder nor a pulled repository.
    #[error("{given}: there is no such folder{advice}")]
    NoCheckpoint {
        /// The checkpoint as given.
        given: String,
        /// How to get it, if it could be a repository.
        advice: String,
    },
}

impl HubError {
    /// Makes the error of an I/O failure at a path.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
