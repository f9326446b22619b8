//! GSM8K: lm-eval's filters and exact match, and OpenCompass' grader.
//!
//! Source: lm-eval 0.4.8 tasks `gsm8k` and `gsm8k_cot`; OpenCompass `gsm8k_postprocess`, `Gsm8kEvaluator` as in LLaDA.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, pattern, python};

static STRICT: LazyLock<Regex> = LazyLock::new(|| pattern(r"#### (-?[0-9.,]+)"));
static STRICT_THOUGHT: LazyLock<Regex> = LazyLock::new(|| pattern(r"The answer is (-?[0-9.,]+)[^\n]"));
static FLEXIBLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(-?[$0-9.,]{2,})|(-?[0-9]+)"));
static OPENCOMPASS: LazyLock<Regex> = LazyLock::new(|| pattern(r"-?\d+\.\d+|-?\d+"));

/// Scores an output against the data set's `answer`.
///
/// # Errors
/// An error if the prediction or the reference is missing.
pub fn verdict(case: &Case<'_>) -> Result<Value, ScoreError> {
    let output = case.text(&["prediction"])?;
    let answer = case.text(&["reference", "answer"])?;
    let after = python::strip(answer.rsplit("####").next().unwrap_or(answer));
    let both = |strict: &Regex, gold: &str| {
        json!({
            "strict-match": matched(first(strict, output), gold),
            "flexible-extract": matched(last_number(output), gold),
        })
    };
    Ok(json!({
        "gsm8k": both(&STRICT, answer),
        "gsm8k_cot": both(&STRICT_THOUGHT, after),
        "opencompass": opencompass(output, answer),
    }))
}

fn matched(extracted: String, gold: &str) -> Value {
    let same = normalised(&extracted) == normalised(gold);
    json!({ "extracted": extracted, "exact_match": if same { 1.0 } else { 0.0 } })
}

fn first(strict: &Regex, output: &str) -> String {
    let found = strict.captures(output).and_then(|found| found.get(1));
    found.map_or_else(invalid, |found| python::strip(found.as_str()).to_owned())
}

fn last_number(output: &str) -> String {
    FLEXIBLE
        .find_iter(output)
        .last()
        .map_or_else(invalid, |found| found.as_str().to_owned())
}

fn invalid() -> String {
    "[invalid]".to_owned()
}

/// Normalises as for `exact_match`: removes `,`, `$`, everything up to the last `#### `, and a final full stop;
/// lower-cases.
fn normalised(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rfind("#### ").map_or(text.as_str(), |at| &text[at + 5..]);
    let text = match text.strip_suffix('.') {
        Some(rest) => rest.to_owned(),
        None => text
            .strip_suffix(".\n")
            .map_or_else(|| text.to_owned(), |rest| format!("{rest}\n")),
    };
    text.to_lowercase()
}

fn opencompass(output: &str, answer: &str) -> Value {
    let Some(gold) = answer.split("#### ").nth(1) else {
        return json!({ "error": "IndexError" });
    };
    let gold = gold.replace(',', "");
    let asked = output.split("Question:").next().unwrap_or(output);
    let extracted = OPENCOMPASS
        .find_iter(asked)
        .last()
        .map_or("NULL", |found| found.as_str());
    let is_near = || {
        let gold: f64 = python::int(&gold)?.parse().ok()?;
        Some((python::float(extracted)? - gold).abs() < 1e-6)
    };
    let correct = extracted == gold || is_near().unwrap_or(false);
    json!({ "extracted": extracted, "correct": correct })
}
