//! The promotion gate: decides whether a checkpoint is better than the best promoted one. Both answered the same items,
//! so it compares item by item. This is sharper than comparing two averages by their separate intervals.

use std::collections::BTreeMap;

use demask_rewards::statistics::{self, Interval, Z};
pub use demask_storage::Decision;
use serde::{Deserialize, Serialize};

use crate::pipeline::evaluation::evaluator::SuiteRun;
use crate::profile::Gate;

/// The result of a suite, as the gate compares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Value of the suite with its interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// Credit of each counted item, in order; empty in markers of versions that did not store credits.
    #[serde(default)]
    pub credits: Vec<f64>,
}

/// Scores by suite.
pub type Results = BTreeMap<String, Score>;

/// The best checkpoint so far, stored in the marker `promoted.json` beside the checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    /// Name of the checkpoint's folder.
    pub checkpoint: String,
    /// Step of the checkpoint.
    pub step: u64,
    /// The checkpoint's weights version.
    pub weights: u64,
    /// The checkpoint's benchmark results.
    pub results: Results,
}

/// Converts evaluation results to what the gate compares.
#[must_use]
pub fn results(suites: &[SuiteRun]) -> Results {
    let score = |run: &SuiteRun| Score {
        interval: Interval {
            value: run.result.value,
            low: run.result.low,
            high: run.result.high,
        },
        credits: run.credits(),
    };
    suites
        .iter()
        .map(|run| (run.result.suite.clone(), score(run)))
        .collect()
}

/// Returns by how much the present result of a suite is better than an earlier one: the mean difference over the items
/// that both have, with its 95 % interval. Without stored items it is the difference of the values, with an interval
/// from both intervals.
#[must_use]
pub fn gain(before: &Score, now: &Score) -> Interval {
    if let Some(paired) = statistics::paired(&before.credits, &now.credits) {
        return paired.difference;
    }
    let half = |interval: &Interval| (interval.high - interval.low) / 2.0;
    let value = now.interval.value - before.interval.value;
    let half = half(&before.interval).hypot(half(&now.interval));
    Interval {
        value,
        low: value - half,
        high: value + half,
    }
}

/// Returns each suite's gain over the best checkpoint, for the suites that both have.
#[must_use]
pub fn gains(best: Option<&Promoted>, now: &Results) -> BTreeMap<String, Interval> {
    let best = best.map(|best| &best.results).into_iter().flatten();
    best.filter_map(|(suite, before)| Some((suite.clone(), gain(before, now.get(suite)?))))
        .collect()
}

/// Decides about a checkpoint. The first one is the baseline. If a suite lost with certainty, its whole interval below
/// 0, the decision is to roll back, or to hold where rollback is off. If the mean over the suites has its whole
/// interval above the margin, the checkpoint is promoted. Otherwise it is held.
#[must_use]
pub fn decide(gate: &Gate, best: Option<&Promoted>, gains: &BTreeMap<String, Interval>) -> Decision {
    if best.is_none() {
        return Decision::Baseline;
    }
    if gains.is_empty() {
        return Decision::Hold;
    }
    if gains.values().any(|gain| gain.high < 0.0) {
        return if gate.rollback {
            Decision::RollBack
        } else {
            Decision::Hold
        };
    }
    let count = gains.len() as f64;
    let mean = gains.values().map(|gain| gain.value).sum::<f64>() / count;
    // The items of different suites are independent, so the variances add.
    let variance = |gain: &Interval| ((gain.high - gain.low) / (2.0 * Z)).powi(2);
    let half = Z * gains.values().map(variance).sum::<f64>().sqrt() / count;
    if mean - half > gate.margin {
        Decision::Promote
    } else {
        Decision::Hold
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// Makes a hundred items of which the first `right` are right.
    fn of(values: &[(&str, usize)]) -> Results {
        let score = |right: usize| Score {
            interval: statistics::share(right, 100),
            credits: (0..100).map(|item| f64::from(u8::from(item < right))).collect(),
        };
        values
            .iter()
            .map(|&(name, right)| (name.to_owned(), score(right)))
            .collect()
    }

    fn best(values: &[(&str, usize)]) -> Promoted {
        Promoted {
            checkpoint: "step-00000001".into(),
            step: 1,
            weights: 1,
            results: of(values),
        }
    }

    fn decided(gate: &Gate, best: &Promoted, now: &Results) -> Decision {
        decide(gate, Some(best), &gains(Some(best), now))
    }

    #[test]
    fn the_first_is_the_baseline_and_a_gain_that_is_certain_is_promoted() {
        let gate = Gate::default();
        assert_eq!(
            decide(&gate, None, &gains(None, &of(&[("a", 10)]))),
            Decision::Baseline
        );
        let before = best(&[("a", 50), ("b", 50)]);
        // The intervals of 100 items each overlap; but the same items improved, and none got worse.
        let now = of(&[("a", 50), ("b", 60)]);
        assert_eq!(decided(&gate, &before, &now), Decision::Promote);
        assert_eq!(decided(&gate, &before, &before.results), Decision::Hold);
        let strict = Gate {
            margin: 0.05,
            ..Gate::default()
        };
        assert_eq!(decided(&strict, &before, &now), Decision::Hold);
    }

    #[test]
    fn a_gain_that_may_be_chance_is_not_promoted() {
        let before = best(&[("a", 50)]);
        let mut now = of(&[("a", 55)]);
        // Five more items are won than lost.
        let credits = &mut now.get_mut("a").unwrap().credits;
        credits.rotate_left(50);
        assert_eq!(decided(&Gate::default(), &before, &now), Decision::Hold);
    }

    #[test]
    fn a_suite_that_fell_for_certain_is_never_bought_by_another() {
        let before = best(&[("a", 50), ("b", 50)]);
        let now = of(&[("a", 20), ("b", 100)]);
        assert_eq!(decided(&Gate::default(), &before, &now), Decision::Hold);
        let back = Gate {
            rollback: true,
            ..Gate::default()
        };
        assert_eq!(decided(&back, &before, &now), Decision::RollBack);
        let slight = of(&[("a", 49), ("b", 50)]);
        assert_eq!(
            decided(&back, &before, &slight),
            Decision::Hold,
            "one item may be chance"
        );
    }

    #[test]
    fn what_cannot_be_compared_is_held_and_old_markers_are_read() {
        assert_eq!(
            decided(&Gate::default(), &best(&[("a", 50)]), &of(&[("b", 90)])),
            Decision::Hold
        );
        let old = r#"{"checkpoint": "step-1", "step": 1, "weights": 1, "results": {"a": {"value": 0.1, "low": 0.05, "high": 0.15}}}"#;
        let old: Promoted = serde_json::from_str(old).unwrap();
        assert_eq!(
            decided(&Gate::default(), &old, &of(&[("a", 90)])),
            Decision::Promote
        );
        assert_eq!(decided(&Gate::default(), &old, &of(&[("a", 12)])), Decision::Hold);
    }
}
