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
        /// Its path in the repository.
        file: &'a str,
        /// Its length in bytes, if the hub gives it.
        size: Option<u64>,
    },
    /// The number of bytes on disk; it decreases when the server restarts the file.
    Here {
        /// Its path in the repository.
        file: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// The file is complete; its hash is being computed.
    Checking {
        /// Its path in the repository.
        file: &'a str,
    },
    /// The file is in the cache under its final name.
    Done {
        /// Its path in the repository.
        file: &'a str,
        /// Length in bytes.
        bytes: u64,
        /// Whether it was in the cache or fetched.
        origin: PullOrigin,
    },
    /// Another pull is fetching the file.
    Held {
        /// Its path in the repository.
        file: &'a str,
    },
    /// The hub failed and is asked again after a wait.
    Waiting {
        /// What was asked for.
        what: &'a str,
        /// Why the try failed.
        why: &'a str,
        /// The wait.
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
