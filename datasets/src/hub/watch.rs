//! Progress events of a pull, and the trait of their observers.

use std::time::Duration;

use super::PullOrigin;

/// A progress event.
#[derive(Clone, Copy, Debug)]
pub enum PullEvent<'a> {
    /// The files are listed.
    Listed {
        /// The commit of the revision.
        commit: &'a str,
        /// The number of wanted files.
        files: usize,
    },
    /// A file's download begins.
    Begun {
        /// The file's path in the repository.
        file: &'a str,
        /// The file's length in bytes, if the hub gives it.
        size: Option<u64>,
    },
    /// The number of bytes on disk; it decreases when the server restarts the file.
    Here {
        /// The file's path in the repository.
        file: &'a str,
        /// Number of bytes on disk.
        bytes: u64,
    },
    /// The file is complete; its hash is being computed.
    Checking {
        /// The file's path in the repository.
        file: &'a str,
    },
    /// The file is in the cache under its final name.
    Done {
        /// The file's path in the repository.
        file: &'a str,
        /// Length in bytes.
        bytes: u64,
        /// Whether it was in the cache or fetched.
        origin: PullOrigin,
    },
    /// Another pull is fetching the file.
    Held {
        /// The file's path in the repository.
        file: &'a str,
    },
    /// The hub failed and is asked again after a wait.
    Waiting {
        /// The request that failed.
        what: &'a str,
        /// Why the request failed.
        why: &'a str,
        /// Time until the next try.
        wait: Duration,
    },
    /// A message for the user.
    Note(&'a str),
}

/// An observer of a pull.
pub trait Watch {
    /// Receives one event. It is called between network reads and must not block.
    fn saw(&self, event: PullEvent<'_>);
}
