//! Benchmarks of drawing: CLIP score, ImageReward, GenEval, WISE.
//!
//! What judges a drawing is no part of this crate: a reward network of the engine (`Scoring::AskNetwork`), a detector
//! (`Scoring::AskDetector`), a judge model (`Scoring::AskJudge`). What follows from their words is decided here, exactly as
//! the published scripts do.

pub mod clip_score;
pub mod geneval;
pub mod image_reward;
pub mod wise;

use super::files::{Files, PublishedRecord};
use crate::benchmarks::{Judged, SuiteError};
use crate::statistics::{Mean, mean};

/// The prompts of files: a text with a prompt a line, or a table with a column `prompt` or `Prompt`.
fn prompts(benchmark: &str, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
    let mut records = Vec::new();
    for name in files.named(|name| name.ends_with(".txt") && !name.to_lowercase().contains("license")) {
        let path = files.path(name);
        let text = std::fs::read_to_string(&path).map_err(|error| {
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

/// The mean of what a network said, over the items that it was asked about.
fn mean_said(judged: &[Judged], scaled: impl Fn(f64) -> f64) -> Option<Mean> {
    let said = judged.iter().filter_map(|one| one.verdict.answer.parse().ok());
    mean(&said.map(scaled).collect::<Vec<f64>>())
}
