//! Text benchmarks: MMLU, ARC-Challenge, TruthfulQA, GSM8K, MATH, GPQA.
//!
//! A base model is asked for the log-likelihood of each choice, as in lm-eval (`llada-base`); an instruction-tuned
//! model writes its answer (`llada-instruct`). The two are never comparable. `shots/` holds the examples of published
//! prompts, under their own licences.

pub mod arc_challenge;
pub mod gpqa;
pub mod gsm8k;
pub mod math;
pub mod math_500;
pub mod mmlu;
pub mod truthfulqa;

use serde_json::Value;

use super::files::PublishedRecord;
use crate::benchmarks::Verdict;

/// Parses a file of `shots/`.
fn shots(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Returns the letter of a choice.
fn letter(number: usize) -> char {
    u8::try_from(number)
        .ok()
        .and_then(|number| b'A'.checked_add(number))
        .map_or('?', char::from)
}

/// Writes the choices on separate lines, each after its letter.
fn lettered(choices: &[String]) -> String {
    let lines = choices.iter().enumerate();
    lines
        .map(|(at, choice)| format!("\n{}. {choice}", letter(at)))
        .collect()
}

/// Makes a verdict of this credit, with the log-likelihoods as the parsed answer.
pub(super) fn of_likelihoods(credit: f64, likelihoods: &[f64]) -> Verdict {
    let words: Vec<String> = likelihoods.iter().map(|one| format!("{one:.4}")).collect();
    Verdict {
        credit: if credit.is_finite() { credit } else { 0.0 },
        answer: words.join(" "),
    }
}

/// Returns the index of a row's right choice: a letter, or a number from 0, possibly as text.
fn right_choice(record: &PublishedRecord, column: &str, count: usize) -> Result<usize, String> {
    let found = match record.value(column) {
        Value::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        Value::String(text) => match text.trim().as_bytes() {
            [one @ b'A'..=b'Z'] => Some(usize::from(one - b'A')),
            _ => text.trim().parse().ok(),
        },
        _ => None,
    };
    found
        .filter(|number| *number < count)
        .ok_or_else(|| format!("`{column}`: the letter or number of one of {count} choices was expected"))
}
