//! Comparison of a disturbed run with an undisturbed one (law L8).

use std::path::Path;

use crate::home::Place;
use crate::store::rows_as_csv;
use crate::weights::{last_checkpoint, tensor_hashes};

/// Queries of what a run did. Rates and times are left out, and ids are freed of the run's own id, because both differ
/// between runs.
const DEEDS: [&str; 6] = [
    "SELECT step, name, value FROM v_metric WHERE name NOT LIKE 'rate/%' AND name NOT LIKE '%seconds' ORDER BY name, step",
    "SELECT step, stage, replace(subject, run, '') AS subject, source, score FROM v_lineage ORDER BY 1, 2, 3",
    "SELECT step, number, prompt, text, picture, parts, total, advantage FROM v_rollout ORDER BY 1, replace(sample, run, '')",
    "SELECT round, prompt, text, gate, passed, reason FROM v_trace ORDER BY 1, replace(trace, run, '')",
    "SELECT suite, metric, value, n FROM v_eval ORDER BY 1, 2",
    "SELECT * FROM (SELECT round, source, gate, reason, passed, rejected FROM v_funnel) ORDER BY 1, 2, 3, 4",
];

/// Returns what a home's only run did, and its final tensors. It is equal for two runs if nothing was lost or done
/// twice.
///
/// # Panics
/// If the run has no checkpoint, or the store cannot be queried.
#[must_use]
pub fn deeds(place: &Place, run: &str) -> Vec<String> {
    let weights = tensor_hashes(&last_checkpoint(place.path(), run)).join(" ");
    let rows = DEEDS.iter().map(|sql| rows_as_csv(place, sql));
    std::iter::once(weights).chain(rows).collect()
}

/// Describes the differences of two runs; empty if there are none.
#[must_use]
pub fn differences(found: &[String], expected: &[String]) -> Vec<String> {
    let names = std::iter::once("the tensors of the last checkpoint").chain(DEEDS);
    let pairs = names.zip(found.iter().zip(expected));
    pairs
        .filter(|(_, (found, expected))| found != expected)
        .map(|(name, (found, expected))| {
            let lines = found.lines().zip(expected.lines());
            let first = lines.into_iter().find(|(one, other)| one != other);
            format!("{name}: {first:?}")
        })
        .collect()
}

/// Returns the names of partial checkpoints, which are hidden among a run's checkpoints.
///
/// # Panics
/// If the run has no folder.
#[must_use]
pub fn litter(home: &Path, run: &str) -> Vec<String> {
    std::fs::read_dir(home.join("checkpoints").join(run))
        .expect("checkpoints")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with('.'))
        .collect()
}
