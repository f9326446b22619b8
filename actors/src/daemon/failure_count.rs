//! The failures of a run's lives: how many came in a row, and whether a smaller world may help.

/// Lives in a row that may fail without a completed step.
pub(super) const LIVES: u32 = 6;

/// The failures of a run's lives.
#[derive(Debug, Default)]
pub(super) struct FailureCount {
    /// Lives in a row that failed without a completed step, with the present number of ranks.
    pub(super) in_a_row: u32,
    /// The furthest step at which a life failed.
    furthest: u64,
    /// That step when the world was last made smaller.
    smaller_since: Option<u64>,
    /// Whether a world of the present number of ranks was started.
    started: bool,
}

impl FailureCount {
    /// Notes that a life failed at this step, and whether its engine was started.
    pub(super) fn note(&mut self, step: u64, started: bool) {
        self.in_a_row = if step > self.furthest {
            1
        } else {
            self.in_a_row + 1
        };
        self.furthest = self.furthest.max(step);
        self.started |= started;
    }

    /// Returns whether fewer ranks may succeed. What fails at the same step with one rank less does not depend on their
    /// number; but ranks that cannot be started, for example because several devices are gone, may still be too many.
    pub(super) fn may_depend_on_ranks(&self) -> bool {
        !self.started || self.smaller_since.is_none_or(|step| self.furthest > step)
    }

    /// Begins to count for a world of one rank less.
    pub(super) fn begin_smaller_world(&mut self) {
        self.in_a_row = 0;
        self.smaller_since = Some(self.furthest);
        self.started = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a world fail for good at this step, and returns whether a smaller one is tried.
    fn is_made_smaller(failures: &mut FailureCount, step: u64, started: bool) -> bool {
        (0..LIVES).for_each(|_| failures.note(step, started));
        let smaller = failures.may_depend_on_ranks();
        if smaller {
            failures.begin_smaller_world();
        }
        smaller
    }

    #[test]
    fn l1_a_failure_that_stays_with_one_rank_less_does_not_lead_to_smaller_worlds() {
        let mut failures = FailureCount::default();
        assert!(is_made_smaller(&mut failures, 7, true));
        assert!(!is_made_smaller(&mut failures, 7, true), "the same step");
        // The checkpoint is of an earlier step.
        let mut failures = FailureCount::default();
        assert!(is_made_smaller(&mut failures, 7, true));
        assert!(!is_made_smaller(&mut failures, 6, true), "an earlier step");
    }

    #[test]
    fn l11_a_smaller_world_that_went_on_may_be_made_smaller_again() {
        let mut failures = FailureCount::default();
        assert!(is_made_smaller(&mut failures, 7, true));
        assert!(is_made_smaller(&mut failures, 8, true));
        assert_eq!(failures.in_a_row, 0);
    }

    #[test]
    fn l11_ranks_that_cannot_be_started_are_left_out_one_by_one() {
        let mut failures = FailureCount::default();
        for _ in 0..3 {
            assert!(is_made_smaller(&mut failures, 7, false));
        }
        assert!(!is_made_smaller(&mut failures, 7, true), "it was started");
    }
}
