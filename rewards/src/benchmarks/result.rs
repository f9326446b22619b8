//! The result of a suite, and its usual forms: the share of right answers, the mean of the categories' shares, and the
//! mean credit.

use std::collections::BTreeMap;

use demask_datasets::formats::row::{BadRow, ReadError};
use serde::{Deserialize, Serialize};

use super::{Judged, Protocol};
use crate::statistics::{Interval, Mean, mean, mean_of_shares, share};

/// The category of held-out compositions.
const COMPOSITION: &str = "composition";

/// Why a benchmark cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The data is not on this machine.
    #[error("{0}")]
    Absent(String),
    /// The data cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row of the data is broken.
    #[error("{0}")]
    Row(BadRow),
    /// The suite needs something that is missing or was not configured.
    #[error("suite {suite} needs {what}")]
    Unsupported {
        /// The suite.
        suite: String,
        /// What the suite needs.
        what: &'static str,
    },
}

impl From<BadRow> for SuiteError {
    fn from(row: BadRow) -> Self {
        Self::Row(row)
    }
}

/// A suite's result, as `demask eval --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteResult {
    /// The suite.
    pub suite: String,
    /// The protocol: how items were asked, answered and scored. Every result has one.
    #[serde(default = "ours")]
    pub protocol: String,
    /// The name of the value.
    pub metric: String,
    /// The figure as the benchmark's papers write it (`1410.7 of 2000`); empty if that is the value in percent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub figure: String,
    /// The value; 0 to 1 if the metric is a share.
    pub value: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval.
    pub high: f64,
    /// The number of items.
    pub n: usize,
    /// The share of right answers by category; empty if the benchmark has none.
    pub parts: BTreeMap<String, f64>,
    /// The means of the reward networks' scores of the drawings that `n` counts; empty if no network was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Mean>,
}

fn ours() -> String {
    super::protocol::OURS.to_owned()
}

/// Computes the share of right answers. Held-out compositions are the category `composition` and count nowhere else:
/// value, interval and `n` cover only what a model could be trained for.
#[must_use]
pub fn accuracy(suite: &str, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
    let over_all = |shares: &[(usize, usize)]| {
        let (right, n) = total(shares);
        share(right, n)
    };
    result(suite, protocol, judged, over_all)
}

/// Computes the unweighted mean of the categories' shares of right answers; held-out compositions as in [`accuracy`].
#[must_use]
pub fn mean_of_categories(suite: &str, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
    result(suite, protocol, judged, mean_of_shares)
}

/// Computes the mean credit, for answers that may be partly right. Held-out compositions are not counted.
#[must_use]
pub(super) fn mean_credit(suite: &str, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
    let counted = || judged.iter().filter(|one| !one.item.example.held_out);
    let credits: Vec<f64> = counted().map(|one| one.verdict.credit).collect();
    let value = mean(&credits);
    let mut parts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for one in counted().filter(|one| !one.item.example.category.is_empty()) {
        let part = parts.entry(one.item.example.category.clone()).or_default();
        part.push(one.verdict.credit);
    }
    SuiteResult {
        suite: suite.to_owned(),
        protocol: protocol.label().to_owned(),
        figure: String::new(),
        metric: protocol.metric.to_owned(),
        value: value.map_or(0.0, |mean| mean.value),
        // A single credit has no spread, so its interval is the widest possible.
        low: value.and_then(|mean| mean.low).unwrap_or(0.0).clamp(0.0, 1.0),
        high: value.and_then(|mean| mean.high).unwrap_or(1.0).clamp(0.0, 1.0),
        n: credits.len(),
        parts: parts
            .into_iter()
            .filter_map(|(name, credits)| Some((name, mean(&credits)?.value)))
            .collect(),
        networks: BTreeMap::new(),
    }
}

/// Returns the mean of the results of several samples of every item, with `pass@N` among the parts: the share
/// of items that at least one of the N samples answers right. Held-out compositions do not count there.
///
/// The interval is the mean of the single samples' intervals. It covers the choice of items, which more
/// samples of the same items do not narrow.
pub(super) fn mean_of_samples(
    samples: &[Vec<Judged>],
    aggregate: impl Fn(&[Judged]) -> SuiteResult,
) -> SuiteResult {
    let results: Vec<SuiteResult> = samples.iter().map(|judged| aggregate(judged)).collect();
    let over = |figure: &dyn Fn(&SuiteResult) -> f64| {
        results.iter().map(figure).sum::<f64>() / results.len().max(1) as f64
    };
    let (value, low, high) = (
        over(&|one| one.value),
        over(&|one| one.low),
        over(&|one| one.high),
    );
    let first = results.first().cloned().unwrap_or_else(|| aggregate(&[]));
    let names = first.parts.keys().cloned();
    let mut parts: BTreeMap<String, f64> = names
        .map(|name| {
            (
                name.clone(),
                over(&|one| one.parts.get(&name).copied().unwrap_or(0.0)),
            )
        })
        .collect();
    if let Some(share) = solved(samples) {
        parts.insert(format!("pass@{}", samples.len()), share);
    }
    SuiteResult {
        figure: String::new(),
        protocol: format!("{}, mean of {} samples", first.protocol, samples.len()),
        value,
        low,
        high,
        parts,
        ..first
    }
}

/// Returns the share of items that at least one sample answers right. `None` if there are no items, or if
/// answers may be partly right.
fn solved(samples: &[Vec<Judged>]) -> Option<f64> {
    let first = samples.first()?;
    // With partial credit, no answer is simply right or wrong.
    let is_share = |one: &Judged| one.verdict.credit == 0.0 || one.verdict.credit == 1.0;
    if !samples.iter().flatten().all(is_share) {
        return None;
    }
    let counted = (0..first.len()).filter(|&at| !first[at].item.example.held_out);
    let solved: Vec<f64> = counted
        .map(|at| {
            samples
                .iter()
                .any(|judged| judged.get(at).is_some_and(|one| one.verdict.credit >= 1.0))
        })
        .map(f64::from)
        .collect();
    (!solved.is_empty()).then(|| solved.iter().sum::<f64>() / solved.len() as f64)
}

fn result(
    suite: &str,
    protocol: &Protocol,
    judged: &[Judged],
    interval: impl Fn(&[(usize, usize)]) -> Interval,
) -> SuiteResult {
    let parts = count_parts(judged);
    let counted = parts.iter().filter(|(name, _)| *name != COMPOSITION);
    let shares: Vec<(usize, usize)> = counted.map(|(_, &counts)| counts).collect();
    let interval = interval(&shares);
    SuiteResult {
        suite: suite.to_owned(),
        protocol: protocol.label().to_owned(),
        figure: String::new(),
        metric: protocol.metric.to_owned(),
        value: interval.value,
        low: interval.low,
        high: interval.high,
        n: total(&shares).1,
        parts: parts
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, (right, n))| (name, right as f64 / n.max(1) as f64))
            .collect(),
        networks: BTreeMap::new(),
    }
}

/// Counts right answers and items by category.
fn count_parts(judged: &[Judged]) -> BTreeMap<String, (usize, usize)> {
    let mut parts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for Judged { item, verdict } in judged {
        let part = match item.example.held_out {
            true => COMPOSITION.to_owned(),
            false => item.example.category.clone(),
        };
        let counts = parts.entry(part).or_default();
        counts.0 += usize::from(verdict.credit >= 1.0);
        counts.1 += 1;
    }
    parts
}

fn total(shares: &[(usize, usize)]) -> (usize, usize) {
    shares
        .iter()
        .fold((0, 0), |(right, n), share| (right + share.0, n + share.1))
}
