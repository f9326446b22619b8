//! Likelihood benchmarks: the likeliest choice, and the aggregates of groups of subtasks.
//!
//! Source: lm-eval 0.4.8 `ConfigurableTask.process_results`, `process_results_mc2` (and its HEAD), `mean_stderr`,
//! `aggregate_subtask_metrics`, `pooled_sample_stderr`. A length is in code points, without the leading space.

use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};

/// Scores ARC: the choices' texts, and the right one by its label.
///
/// # Errors
/// An error if a field is missing.
pub fn arc(case: &Case<'_>) -> Result<Value, ScoreError> {
    let choices = case.texts(&["choices"])?;
    let key = case.text(&["answerKey"])?;
    let labels = case.texts(&["labels"])?;
    let Some(gold) = labels.iter().position(|label| *label == key) else {
        return Ok(json!({ "error": "ValueError" }));
    };
    let lengths: Vec<f64> = choices
        .iter()
        .map(|choice| python::length(choice) as f64)
        .collect();
    both(case, gold, &lengths)
}

/// Returns the likelihoods of the choices, which there must be.
fn likelihoods(case: &Case<'_>) -> Result<Vec<f64>, ScoreError> {
    case.filled(&["loglikelihoods"])?;
    case.numbers(&["loglikelihoods"])
}

/// Checks that a field has one entry for each of another's.
fn same_length(name: &str, length: usize, other: usize, of: &str) -> Result<(), ScoreError> {
    if length == other {
        return Ok(());
    }
    Err(ScoreError::wrong(
        &[name],
        &format!("as long as the {of} ({length} and {other})"),
    ))
}

/// Scores MMLU: accuracy over four letters.
///
/// # Errors
/// An error if a field is missing.
pub fn mmlu(case: &Case<'_>) -> Result<Value, ScoreError> {
    let likelihoods = likelihoods(case)?;
    let gold = case.whole(&["answer", "reference"])? as usize;
    Ok(json!({ "acc": right(&likelihoods, gold) }))
}

/// Scores GPQA with shots: the choices `(A)` to `(D)`.
///
/// # Errors
/// An error if a field is missing.
pub fn gpqa(case: &Case<'_>) -> Result<Value, ScoreError> {
    let answer = case.text(&["answer", "reference"])?;
    let Some(gold) = ["(A)", "(B)", "(C)", "(D)"]
        .iter()
        .position(|choice| *choice == answer)
    else {
        return Ok(json!({ "error": "ValueError" }));
    };
    both(case, gold, &[3.0; 4])
}

/// Scores TruthfulQA with one right answer, which is always the first.
///
/// # Errors
/// An error if a field is missing.
pub fn truthful_one(case: &Case<'_>) -> Result<Value, ScoreError> {
    Ok(json!({ "acc": right(&likelihoods(case)?, 0) }))
}

/// Scores TruthfulQA with several right answers: their share of the probability, split at the first label 0 (0.4.8) or
/// by all labels (HEAD).
///
/// # Errors
/// An error if a field is missing.
pub fn truthful_many(case: &Case<'_>) -> Result<Value, ScoreError> {
    let masses: Vec<f64> = likelihoods(case)?
        .iter()
        .map(|likelihood| likelihood.exp())
        .collect();
    let labels = case.numbers(&["labels"])?;
    same_length("loglikelihoods", masses.len(), labels.len(), "labels")?;
    let split = labels.iter().position(|label| *label == 0.0);
    let by_split = split.map_or_else(
        || json!({ "error": "ValueError" }),
        |split| share(masses.iter().take(split), masses.iter().skip(split)),
    );
    let of = |wanted: f64| {
        masses
            .iter()
            .zip(&labels)
            .filter(move |(_, label)| **label == wanted)
            .map(|(mass, _)| mass)
    };
    Ok(json!({ "acc_v2": by_split, "acc_v3": share(of(1.0), of(0.0)) }))
}

fn share<'a>(right: impl Iterator<Item = &'a f64>, wrong: impl Iterator<Item = &'a f64>) -> Value {
    let right: Vec<f64> = right.copied().collect();
    let total = right.iter().sum::<f64>() + wrong.sum::<f64>();
    let share: f64 = right.iter().map(|mass| mass / total).sum();
    if share.is_finite() {
        Value::from(share)
    } else {
        Value::Null
    }
}

fn both(case: &Case<'_>, gold: usize, lengths: &[f64]) -> Result<Value, ScoreError> {
    let likelihoods = likelihoods(case)?;
    same_length("loglikelihoods", likelihoods.len(), lengths.len(), "choices")?;
    let by_length: Vec<f64> = likelihoods
        .iter()
        .zip(lengths)
        .map(|(likelihood, length)| likelihood / length)
        .collect();
    Ok(json!({ "acc": right(&likelihoods, gold), "acc_norm": right(&by_length, gold) }))
}

fn right(scores: &[f64], gold: usize) -> f64 {
    if argmax(scores) == Some(gold) { 1.0 } else { 0.0 }
}

/// NumPy's `argmax`: the first of the greatest, or the first NaN.
fn argmax(scores: &[f64]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, score) in scores.iter().enumerate() {
        if score.is_nan() {
            return Some(i);
        }
        if best.is_none_or(|best| *score > scores[best]) {
            best = Some(i);
        }
    }
    best
}

/// Aggregates a group of subtasks: accuracy and standard error of each, the mean weighted by size and unweighted, the
/// pooled error.
///
/// # Errors
/// An error if a field is missing, or if a subtask has fewer than two items.
pub fn group(case: &Case<'_>) -> Result<Value, ScoreError> {
    case.filled(&["sizes"])?;
    let correct = case.numbers(&["correct"])?;
    let sizes = case.numbers(&["sizes"])?;
    same_length("correct", correct.len(), sizes.len(), "sizes")?;
    if correct
        .iter()
        .zip(&sizes)
        .any(|(correct, size)| !(0.0..=*size).contains(correct))
    {
        return Err(ScoreError::wrong(
            &["correct"],
            "a list of numbers from 0 to the size",
        ));
    }
    let accuracies: Vec<f64> = correct
        .iter()
        .zip(&sizes)
        .map(|(correct, size)| correct / size)
        .collect();
    if sizes.iter().any(|size| *size < 2.0) {
        return Ok(json!({ "error": "ZeroDivisionError" }));
    }
    let errors: Vec<f64> = accuracies
        .iter()
        .zip(correct.iter().zip(&sizes))
        .map(|(mean, (correct, size))| {
            let squares = correct * (1.0 - mean).powi(2) + (size - correct) * mean.powi(2);
            (squares / (size - 1.0)).sqrt() / size.sqrt()
        })
        .collect();
    let total: f64 = sizes.iter().sum();
    let weighted = accuracies
        .iter()
        .zip(&sizes)
        .map(|(accuracy, size)| accuracy * size)
        .sum::<f64>()
        / total;
    let variance = errors
        .iter()
        .zip(&sizes)
        .map(|(error, size)| (size - 1.0) * error.powi(2) * size)
        .sum::<f64>()
        / (total - sizes.len() as f64);
    Ok(json!({
        "acc": accuracies,
        "stderr": errors,
        "weighted_by_size": weighted,
        "unweighted": accuracies.iter().sum::<f64>() / accuracies.len() as f64,
        "pooled_stderr": (variance / total).sqrt(),
    }))
}
