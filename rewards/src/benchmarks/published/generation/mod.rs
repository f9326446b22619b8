//! Drawing benchmarks: CLIP score, ImageReward, GenEval, WISE.
//!
//! A drawing is judged outside this crate: by a reward network of the engine (`Scoring::AskNetwork`), a detector
//! (`Scoring::AskDetector`), or a judge model (`Scoring::AskJudge`). The consequences of their replies are decided
//! here, exactly as in the published scripts.

pub mod clip_score;
pub mod geneval;
pub mod image_reward;
pub mod wise;

use super::files::{Files, PublishedRecord};
use crate::benchmarks::{Judged, SuiteError};
use crate::statistics::{Mean, mean};

/// Reads the prompts of files: a text with a prompt a line, or a table with a column `prompt` or `Prompt`.
fn prompts(benchmark: &str, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
    let mut records = Vec::new();
    for name in files.named(|name| name.ends_with(".txt") && !name.to_lowercase().contains("license")) {
        let path = files.path(name);
        let text = files.text(name).map_err(|error| {
            SuiteError::Absent(format!("benchmark {benchmark}: {}: {error}", path.display()))
        })?;
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        records.extend(lines.map(|(line, number)| {
            PublishedRecord::of_object(
                format!("{}:{number}", path.display()),
                &serde_json::json!({ "prompt": line.trim() }),
            )
        }));
    }
    let rows = files.rows(|_| true)?;
    records.extend(rows.into_iter().map(|(_, record)| record));
    Ok(records)
}

/// Computes the mean of a network's numbers, over the items for which it was asked.
fn mean_said(judged: &[Judged], scaled: impl Fn(f64) -> f64) -> Option<Mean> {
    let said = judged.iter().filter_map(|one| one.verdict.answer.parse().ok());
    mean(&said.map(scaled).collect::<Vec<f64>>())
}
