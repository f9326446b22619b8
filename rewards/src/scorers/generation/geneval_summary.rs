//! GenEval's summary, as `summary_scores.py` prints it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};

/// Writes the summary of all pictures' results, `{"prompt", "tag", "correct"}` each.
///
/// # Errors
/// An error if the prediction is not a list of such objects, or empty.
pub fn verdict(case: &Case<'_>) -> Result<Value, ScoreError> {
    let rows = case.filled(&["prediction"])?;
    let wrong = || ScoreError::wrong(&["prediction"], "a list of {\"prompt\", \"tag\", \"correct\"}");
    let mut prompts = Groups::default();
    let mut tags = Groups::default();
    for row in rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or_else(wrong);
        let correct = row.get("correct").and_then(Value::as_bool).ok_or_else(wrong)?;
        prompts.add(text("prompt")?, correct);
        tags.add(text("tag")?, correct);
    }
    Ok(json!({ "text": text(&prompts, &tags) }))
}

/// Counts of right and all pictures by key, in the order of the keys' appearance.
#[derive(Default)]
struct Groups {
    groups: Vec<(String, u64, u64)>,
}

impl Groups {
    fn add(&mut self, key: &str, correct: bool) {
        let at = self
            .groups
            .iter()
            .position(|group| group.0 == key)
            .unwrap_or_else(|| {
                self.groups.push((key.to_owned(), 0, 0));
                self.groups.len() - 1
            });
        self.groups[at].1 += u64::from(correct);
        self.groups[at].2 += 1;
    }
}

fn text(prompts: &Groups, tags: &Groups) -> String {
    let (right, all) = tags
        .groups
        .iter()
        .fold((0, 0), |sums, group| (sums.0 + group.1, sums.1 + group.2));
    let solved = prompts.groups.iter().filter(|group| group.1 > 0).count();
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    let mut text = format!(
        "Summary\n=======\nTotal images: {all}\nTotal prompts: {}\n% correct images: {}\n% correct prompts: {}\n\nTask breakdown\n==============\n",
        prompts.groups.len(),
        python::percent(share(right, all)),
        python::percent(share(solved as u64, prompts.groups.len() as u64)),
    );
    for (tag, right, all) in &tags.groups {
        let _ = writeln!(
            text,
            "{tag:<16} = {} ({right} / {all})",
            python::percent(share(*right, *all))
        );
    }
    let mean = tags
        .groups
        .iter()
        .map(|group| share(group.1, group.2))
        .sum::<f64>()
        / tags.groups.len() as f64;
    let _ = writeln!(text, "\nOverall score (avg. over tasks): {mean:.5}");
    text
}
