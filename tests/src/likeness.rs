//! Whether a run that was disturbed did what one did that nobody disturbed (law L8).

use std::path::Path;

use crate::home::Place;
use crate::store::rows_as_csv;
use crate::weights::{last_checkpoint, tensor_hashes};

/// What a run did. Rates are the machine's, and ids begin with the run's.
const DEEDS: [&str; 6] = [
    "SELECT step, name, value FROM v_metric WHERE name NOT LIKE 'rate/%' ORDER BY name, step",
    "SELECT step, stage, replace(subject, run, '') AS subject, source, score FROM v_lineage ORDER BY 1, 2, 3",
    "SELECT step, number, prompt, text, picture, parts, total, advantage FROM v_rollout ORDER BY 1, replace(sample, run, '')",
    "SELECT round, prompt, text, gate, passed, reason FROM v_trace ORDER BY 1, replace(trace, run, '')",
    "SELECT suite, metric, value, n FROM v_eval ORDER BY 1, 2",
    "SELECT * FROM (SELECT round, source, gate, reason, passed, rejected FROM v_funnel) ORDER BY 1, 2, 3, 4",
];

/// What a home's only run did and ended with; two of them are the same where nothing was lost or done twice.
///
/// # Panics
/// When the run has no checkpoint, or the store cannot be asked.
#[must_use]
pub fn deeds(place: &Place, run: &str) -> Vec<String> {
    let weights = tensor_hashes(&last_checkpoint(place.path(), run)).join(" ");
    let rows = DEEDS.iter().map(|sql| rows_as_csv(place, sql));
    std::iter::once(weights).chain(rows).collect()
}

/// In what two runs differ, in words; nothing where they did the same.
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

/// Names of what is hidden among a run's checkpoints: half-written ones.
///
/// # Panics
/// When the run has no folder.
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
