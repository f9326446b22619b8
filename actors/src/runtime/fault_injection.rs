//! Deliberate panics, deliberate bugs and a disk that does not answer, for tests of the laws and for tests that the
//! simulation finds violations. In production all are absent.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Environment variable, for tests: the path of a file. While the file exists, the daemon's disk answers no commit, no
/// write and no read.
pub const DISK_FAULT: &str = "DEMASK_DISK_FAULT";
/// Time between two looks whether the disk answers again.
const LOOK: Duration = Duration::from_millis(5);

/// Waits while the disk is made not to answer. Without [`DISK_FAULT`] it returns at once. Never call it on an event loop.
pub fn wait_for_disk() {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os(DISK_FAULT).map(PathBuf::from));
    while file.as_ref().is_some_and(|file| file.exists()) {
        std::thread::sleep(LOOK);
    }
}

/// The places where an actor is made to panic, once each, and an optional deliberate bug.
#[derive(Clone, Debug, Default)]
pub struct FaultInjection {
    panics: Arc<Mutex<Vec<(String, u64)>>>,
    bug: Option<SeededBug>,
}

/// A deliberate bug that a simulation has to find. A simulation that does not find these bugs proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// A permit for a group is not given back (L2).
    LostPermit,
    /// The samples that were drawn for one group are used for the next one too (L5).
    DoubleUse,
    /// Sampling engines draw groups with the newest weights, although those of an earlier step were asked for (L7).
    OtherWeights,
    /// An external reward that failed too often counts as one that gave no value (L5).
    SkippedReward,
    /// A teacher is asked again for what it wrote in an earlier life (L1).
    PaidTwice,
    /// A stop is said to be on the disk while only the daemon's memory has it, so that a kill loses it (L4).
    LostStop,
    /// The watchdog of an engine takes every heartbeat for progress (L10).
    AnyHeartbeat,
}

impl FaultInjection {
    /// Returns an injection that panics once in each of these `(actor, step)` pairs.
    #[must_use]
    pub fn at(places: &[(&str, u64)]) -> Self {
        let places = places.iter().map(|&(actor, step)| (actor.to_owned(), step));
        Self {
            panics: Arc::new(Mutex::new(places.collect())),
            bug: None,
        }
    }

    /// Adds a deliberate bug, or removes it.
    #[must_use]
    pub fn with_bug(self, bug: Option<SeededBug>) -> Self {
        Self { bug, ..self }
    }

    /// Returns whether this bug is injected.
    #[must_use]
    pub fn has(&self, bug: SeededBug) -> bool {
        self.bug == Some(bug)
    }

    /// Panics if `(actor, step)` is one of the places and was not reached before.
    ///
    /// # Panics
    /// On purpose, as described.
    pub fn strike(&self, actor: &str, step: u64) {
        let mut places = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = places
            .iter()
            .position(|(name, when)| name == actor && *when == step)
        {
            places.swap_remove(at);
            drop(places);
            resume_unwind(Box::new(format!("asked to at step {step}")));
        }
    }

    /// Returns how many places were not reached yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
