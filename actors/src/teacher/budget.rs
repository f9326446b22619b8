//! The tokens that a teacher may cost: reserved before a request, settled after it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::TeacherError;

/// Reserved tokens. Dropping the reservation returns them unless they were settled, also when the request is abandoned.
pub(super) struct Aside<'a> {
    spent: &'a AtomicU64,
    /// How many are reserved.
    pub(super) tokens: u64,
}

impl<'a> Aside<'a> {
    /// Reserves tokens below a cap.
    ///
    /// # Errors
    /// [`TeacherError::Cap`].
    pub(super) fn of(spent: &'a AtomicU64, cap: u64, wanted: u64) -> Result<Self, TeacherError> {
        let room = |spent: u64| (spent.saturating_add(wanted) <= cap).then(|| spent + wanted);
        match spent.fetch_update(Relaxed, Relaxed, room) {
            Ok(_) => Ok(Self {
                spent,
                tokens: wanted,
            }),
            Err(spent) => Err(TeacherError::Cap { cap, spent, wanted }),
        }
    }

    /// Replaces the reservation by what was used.
    pub(super) fn settle(mut self, used: u64) {
        self.spent.fetch_add(used, Relaxed);
        self.spent.fetch_sub(self.tokens, Relaxed);
        self.tokens = 0;
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.spent.fetch_sub(self.tokens, Relaxed);
    }
}
