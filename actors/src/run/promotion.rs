//! The promotion gate: is this checkpoint better than the best promoted one? Intervals are compared, not values alone.

use std::collections::BTreeMap;

use demask_rewards::benchmarks::SuiteResult;
pub use demask_rewards::statistics::Interval;
pub use demask_storage::Decision;
use serde::{Deserialize, Serialize};

use crate::profile::Gate;

/// Suite by suite.
pub type Results = BTreeMap<String, Interval>;

/// The best checkpoint so far: the marker `promoted.json` beside the checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    /// The checkpoint's folder, by name.
    pub checkpoint: String,
    /// Its step.
    pub step: u64,
    /// Its weights version.
    pub weights: u64,
    /// Its results.
    pub results: Results,
}

/// The results as the gate compares them.
#[must_use]
pub fn results(suites: &[SuiteResult]) -> Results {
    let interval = |result: &SuiteResult| Interval {
        value: result.value,
        low: result.low,
        high: result.high,
    };
    suites
        .iter()
        .map(|result| (result.suite.clone(), interval(result)))
        .collect()
}

/// The first is promoted. Then, over the suites that both have: a suite whose whole interval lies below the best's is a
/// fall (roll back, or hold where that is off); else a mean that gains the margin is a promotion; else hold.
#[must_use]
pub fn decide(gate: &Gate, best: Option<&Promoted>, now: &Results) -> Decision {
    let Some(best) = best else {
        return Decision::Promote;
    };
    let both: Vec<(&Interval, &Interval)> = best
        .results
        .iter()
        .filter_map(|(suite, before)| Some((before, now.get(suite)?)))
        .collect();
    if both.is_empty() {
        return Decision::Hold;
    }
    if both.iter().any(|(before, now)| now.high < before.low) {
        return if gate.rollback {
            Decision::RollBack
        } else {
            Decision::Hold
        };
    }
    let gain = both
        .iter()
        .map(|(before, now)| now.value - before.value)
        .sum::<f64>()
        / both.len() as f64;
    if gain >= gate.margin {
        Decision::Promote
    } else {
        Decision::Hold
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    fn of(values: &[(&str, f64)]) -> Results {
        let near = |value: f64| Interval {
            value,
            low: value - 0.1,
            high: value + 0.1,
        };
        values
            .iter()
            .map(|&(name, value)| (name.to_owned(), near(value)))
            .collect()
    }

    fn best(values: &[(&str, f64)]) -> Promoted {
        Promoted {
            checkpoint: "step-00000001".into(),
            step: 1,
            weights: 1,
            results: of(values),
        }
    }

    #[test]
    fn the_first_is_promoted_and_a_gain_is_too() {
        let gate = Gate::default();
        assert_eq!(decide(&gate, None, &of(&[("a", 0.1)])), Decision::Promote);
        let before = best(&[("a", 0.5), ("b", 0.5)]);
        let now = of(&[("a", 0.45), ("b", 0.6)]);
        assert_eq!(decide(&gate, Some(&before), &now), Decision::Promote);
        let strict = Gate {
            margin: 0.05,
            ..Gate::default()
        };
        assert_eq!(decide(&strict, Some(&before), &now), Decision::Hold);
    }

    #[test]
    fn a_suite_that_fell_for_certain_is_never_bought_by_another() {
        let before = best(&[("a", 0.5), ("b", 0.5)]);
        let now = of(&[("a", 0.2), ("b", 1.0)]);
        assert_eq!(decide(&Gate::default(), Some(&before), &now), Decision::Hold);
        let back = Gate {
            rollback: true,
            ..Gate::default()
        };
        assert_eq!(decide(&back, Some(&before), &now), Decision::RollBack);
        let slight = of(&[("a", 0.4), ("b", 0.5)]);
        assert_eq!(
            decide(&back, Some(&before), &slight),
            Decision::Hold,
            "the intervals overlap"
        );
    }

    #[test]
    fn what_cannot_be_compared_is_held() {
        assert_eq!(
            decide(&Gate::default(), Some(&best(&[("a", 0.5)])), &of(&[("b", 0.9)])),
            Decision::Hold
        );
    }
}
