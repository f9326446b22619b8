//! The times of a run's steps, from stored points of a metric and from live records.

use std::collections::VecDeque;

use demask_storage::query::curves::CurvePoint;

/// The times of a run's steps.
pub(crate) struct RunClock<'a> {
    /// The stored points of one of its metrics, by step.
    pub(crate) stored: Vec<CurvePoint>,
    /// When it began, in microseconds since the Unix epoch, if known.
    pub(crate) began: Option<i64>,
    /// The times of live steps, by step, in microseconds since the Unix epoch.
    pub(crate) times: &'a VecDeque<(f64, i64)>,
}

impl RunClock<'_> {
    /// Returns the seconds from the run's beginning to a step: the live time, else interpolated between stored ones.
    pub(crate) fn seconds(&self, step: f64) -> f64 {
        let live = self.times.partition_point(|&(known, _)| known < step);
        let live = self.times.get(live).filter(|&&(known, _)| known == step);
        if let (Some(began), Some(&(_, at_us))) = (self.began, live) {
            return (at_us - began) as f64 * 1e-6;
        }
        let after = self.stored.partition_point(|point| point.step < step);
        let before = after.checked_sub(1).and_then(|at| self.stored.get(at));
        match (before, self.stored.get(after)) {
            (Some(one), Some(other)) if other.step > one.step => {
                let share = (step - one.step) / (other.step - one.step);
                one.seconds + share * (other.seconds - one.seconds)
            }
            (Some(one), _) => one.seconds,
            (None, other) => other.map_or(0.0, |other| other.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_as_late_as_it_came_or_lies_between_those_that_are_known() {
        let point = |step: f64, seconds: f64| CurvePoint {
            step,
            seconds,
            value: 0.0,
        };
        let times = VecDeque::from([(8.0, 11_000_000), (9.0, 13_000_000)]);
        let clock = RunClock {
            stored: vec![point(0.0, 1.0), point(4.0, 5.0)],
            began: Some(1_000_000),
            times: &times,
        };
        let seconds = [0.0, 1.0, 4.0, 6.0, 8.0, 9.0].map(|step| clock.seconds(step));
        assert_eq!(seconds, [1.0, 2.0, 5.0, 5.0, 10.0, 12.0]);
    }
}
