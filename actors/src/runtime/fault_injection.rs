//! Panics on purpose, for tests of law L1: the production list is empty.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};

/// Where actors are made to panic, once each: for tests of law L1, empty otherwise.
#[derive(Clone, Debug, Default)]
pub struct FaultInjection(Arc<Mutex<Vec<(String, u64)>>>);

impl FaultInjection {
    /// At these actors' work on these steps.
    #[must_use]
    pub fn at(places: &[(&str, u64)]) -> Self {
        let places = places.iter().map(|&(actor, step)| (actor.to_owned(), step));
        Self(Arc::new(Mutex::new(places.collect())))
    }

    /// Panics if this is such a place, the first time.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn strike(&self, actor: &str, step: u64) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
