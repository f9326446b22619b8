//! MMMU's domains with their subjects, in the official order, and the metrics of a run.
//!
//! Source: MMMU `main_eval_only.py`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::mmmu::{golds, is_right, parse_open};

/// A domain and its subjects.
#[rustfmt::skip]
pub const DOMAINS: [(&str, &[&str]); 6] = [
    ("Art and Design", &["Art", "Art_Theory", "Design", "Music"]),
    ("Business", &["Accounting", "Economics", "Finance", "Manage", "Marketing"]),
    ("Science", &["Biology", "Chemistry", "Geography", "Math", "Physics"]),
    ("Health and Medicine", &["Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy", "Public_Health"]),
    ("Humanities and Social Science", &["History", "Literature", "Sociology", "Psychology"]),
    ("Tech and Engineering", &["Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power", "Materials", "Mechanical_Engineering"]),
];

/// Aggregates a run: accuracy of each subject, of each domain and of all, rounded to three places. The script goes
/// through the subjects that it knows and that have answers.
///
/// # Errors
/// An error if a field is missing, or an answer of such a subject.
pub fn aggregate(case: &Case<'_>) -> Result<Value, ScoreError> {
    let answers = case.object(&["answers"])?;
    let answered: BTreeSet<String> = answers.keys().map(|id| subject(id)).collect();
    let mut subjects: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (id, predicted) in case.object(&["predictions"])? {
        let subject = subject(id);
        let is_known = DOMAINS.iter().any(|(_, names)| names.contains(&subject.as_str()));
        if !is_known || !answered.contains(&subject) {
            continue;
        }
        let right = is_answered(id, answers.get(id), predicted)?;
        let counts = subjects.entry(subject).or_default();
        counts.0 += usize::from(right);
        counts.1 += 1;
    }
    Ok(json!({ "official": domains(&subjects) }))
}

/// The subject of a question: its id without the first and the last part.
fn subject(id: &str) -> String {
    let parts: Vec<&str> = id.split('_').collect();
    let inner = parts.get(1..parts.len().saturating_sub(1));
    inner.unwrap_or_default().join("_")
}

/// Whether a prediction is right: equal to the letter, or by the rules of open questions.
fn is_answered(id: &str, answer: Option<&Value>, predicted: &Value) -> Result<bool, ScoreError> {
    let answer = answer.ok_or_else(|| ScoreError::Missing(format!("answers.{id}")))?;
    let field = |name: &str| {
        let value = answer.get(name);
        value.ok_or_else(|| ScoreError::Missing(format!("answers.{id}.{name}")))
    };
    let (kind, gold) = (field("question_type")?, field("ground_truth")?);
    if kind.as_str() == Some("multiple-choice") {
        return Ok(match gold {
            Value::Array(golds) => golds.contains(predicted),
            gold => gold == predicted,
        });
    }
    let is_text = match gold {
        Value::Array(golds) => golds.iter().all(Value::is_string),
        gold => gold.is_string(),
    };
    if !is_text {
        let name = format!("answers.{id}.ground_truth");
        return Err(ScoreError::wrong(&[name.as_str()], "a text or a list of texts"));
    }
    let Some(predicted) = predicted.as_str() else {
        return Err(ScoreError::wrong(
            &[format!("predictions.{id}").as_str()],
            "a text",
        ));
    };
    Ok(is_right(&golds(gold), &parse_open(predicted)))
}

fn domains(subjects: &BTreeMap<String, (usize, usize)>) -> Map<String, Value> {
    let mut figures = Map::new();
    for (domain, names) in DOMAINS {
        let of: Vec<(&str, f64, usize)> = names
            .iter()
            .filter_map(|name| {
                let (right, count) = subjects.get(*name)?;
                Some((*name, *right as f64 / *count as f64, *count))
            })
            .collect();
        figures.insert(
            format!("Overall-{domain}"),
            figure(mean(&of), of.iter().map(|subject| subject.2).sum()),
        );
        for (name, accuracy, count) in &of {
            figures.insert((*name).to_owned(), figure(*accuracy, *count));
        }
    }
    // The script adds the subjects in the order of their names, which rounding at a tie depends on.
    let all: Vec<(&str, f64, usize)> = subjects
        .iter()
        .map(|(name, (right, count))| (name.as_str(), *right as f64 / *count as f64, *count))
        .collect();
    figures.insert(
        "Overall".to_owned(),
        figure(mean(&all), all.iter().map(|subject| subject.2).sum()),
    );
    figures
}

fn mean(subjects: &[(&str, f64, usize)]) -> f64 {
    let count: usize = subjects.iter().map(|subject| subject.2).sum();
    let sum: f64 = subjects.iter().map(|subject| subject.1 * subject.2 as f64).sum();
    if count == 0 { 0.0 } else { sum / count as f64 }
}

fn figure(accuracy: f64, count: usize) -> Value {
    json!({ "num": count, "acc": python::round(accuracy, 3) })
}
