//! Who is told how a pull goes.

use std::time::Duration;

use super::PullOrigin;

/// What happens on the way.
#[derive(Clone, Copy, Debug)]
pub enum PullEvent<'a> {
    /// The files are known.
    Listed {
        /// The commit that the revision stands for.
        commit: &'a str,
        /// How many files are wanted.
        files: usize,
    },
    /// A file's bytes begin to come.
    Begun {
        /// Its path in the repository.
        file: &'a str,
        /// Its length in bytes, where the hub says it.
        size: Option<u64>,
    },
    /// This much of it is here; less than before where the server began anew.
    Here {
        /// Its path in the repository.
        file: &'a str,
        /// Bytes.
        bytes: u64,
    },
    /// All of it is here; its hash is being taken.
    Checking {
        /// Its path in the repository.
        file: &'a str,
    },
    /// It is in the cache under its name.
    Done {
        /// Its path in the repository.
        file: &'a str,
        /// Its length.
        bytes: u64,
        /// Whether it had to be fetched.
        origin: PullOrigin,
    },
    /// Another pull is fetching it.
    Held {
        /// Its path in the repository.
        file: &'a str,
    },
    /// The hub failed and is asked again after a wait.
    Waiting {
        /// What was asked for.
        what: &'a str,
        /// How it failed.
        why: &'a str,
        /// The wait.
        wait: Duration,
    },
    /// Something that a person should know.
    Note(&'a str),
}

/// Is told.
pub trait Watch {
    /// One event. It is called between reads of the network, so it must not wait.
    fn saw(&self, event: PullEvent<'_>);
}
