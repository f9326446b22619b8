//! Panics and bugs on purpose, for tests of the laws and of what finds their violations: the production list is empty.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

/// Where actors are made to panic, once each: for tests of law L1, empty otherwise.
#[derive(Clone, Debug, Default)]
pub struct FaultInjection {
    panics: Arc<Mutex<Vec<(String, u64)>>>,
    bug: Option<SeededBug>,
}

/// A bug that a simulation has to find: what finds none of these proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// A place for a group is not given back (L2).
    LostPermit,
    /// What was drawn for one group is used for the next one too (L5).
    DoubleUse,
}

impl FaultInjection {
    /// At these actors' work on these steps.
    #[must_use]
    pub fn at(places: &[(&str, u64)]) -> Self {
        let places = places.iter().map(|&(actor, step)| (actor.to_owned(), step));
        Self {
            panics: Arc::new(Mutex::new(places.collect())),
            bug: None,
        }
    }

    /// The same with a bug.
    #[must_use]
    pub fn with_bug(self, bug: Option<SeededBug>) -> Self {
        Self { bug, ..self }
    }

    /// Whether there is this bug.
    #[must_use]
    pub fn has(&self, bug: SeededBug) -> bool {
        self.bug == Some(bug)
    }

    /// Panics if this is such a place, the first time.
    ///
    /// # Panics
    /// That is what it is for.
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

    /// Places that were not reached yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
