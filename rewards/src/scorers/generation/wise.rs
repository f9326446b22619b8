//! WISE: parsing of a judge's reply, by the legacy protocol (three scores) and the verified one (one score).
//!
//! Source: `WISE_legacy/gpt_eval.py`, `vllm_eval.py`. The judges' prompts are not part of this crate.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, pattern, python};

// Python's `\s` has the four ASCII separators too.
static LEGACY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\*{0,2}(Consistency|Realism|Aesthetic Quality)\*{0,2}[\s\x1c-\x1f]*:?[\s\x1c-\x1f]*(\d)")
});
static VERIFIED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\*{0,2}Score\*{0,2}[\s\x1c-\x1f]*:?[\s\x1c-\x1f]*([01])(?:[^\p{L}\p{N}_]|$)")
});
static THOUGHT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)<think>.*?</think>"));

/// The three aspects, in the order in which a reply of bare digits has them.
pub const ASPECTS: [&str; 3] = ["consistency", "realism", "aesthetic_quality"];

/// Parses the scores of a legacy judge.
///
/// # Errors
/// An error if the prediction is missing.
pub fn legacy(case: &Case<'_>) -> Result<Value, ScoreError> {
    let reply = case.text(&["prediction"])?;
    let mut scores = Map::new();
    for found in LEGACY.captures_iter(reply) {
        let name = found[1].to_lowercase().replace(' ', "_");
        scores.insert(name, json!(python::float(&found[2])));
    }
    if scores.is_empty() {
        let digits: Vec<&str> = lines(reply)
            .filter(|line| matches!(*line, "0" | "1" | "2"))
            .collect();
        if digits.len() >= 3 {
            scores = ASPECTS
                .iter()
                .zip(digits)
                .map(|(name, digit)| ((*name).to_owned(), json!(python::float(digit))))
                .collect();
        }
    }
    let three: Option<Vec<f64>> = ASPECTS.iter().map(|name| scores.get(*name)?.as_f64()).collect();
    let score = three.map(|three| wiscore(three[0], three[1], three[2]));
    Ok(json!({ "scores": scores, "complete": score.is_some(), "wiscore": score }))
}

/// Computes `calculate_wiscore`: 0 to 1 for scores of 0 to 2.
pub fn wiscore(consistency: f64, realism: f64, aesthetic_quality: f64) -> f64 {
    (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic_quality) / 2.0
}

/// Parses the score of a verified judge.
///
/// # Errors
/// An error if the prediction is missing.
pub fn verified(case: &Case<'_>) -> Result<Value, ScoreError> {
    let reply = THOUGHT.replace_all(case.text(&["prediction"])?, "");
    let reply = reply.rsplit("</think>").next().unwrap_or("");
    let said = VERIFIED.captures(reply).map(|found| found[1].to_owned());
    let alone = || {
        let digits: Vec<&str> = lines(reply).filter(|line| matches!(*line, "0" | "1")).collect();
        if let [digit] = digits[..] {
            Some(digit.to_owned())
        } else {
            None
        }
    };
    let score = said.or_else(alone).and_then(|digit| python::float(&digit));
    let scores: Map<String, Value> = score
        .map(|score| ("score".to_owned(), json!(score)))
        .into_iter()
        .collect();
    Ok(json!({ "complete": !scores.is_empty(), "scores": scores }))
}

/// The lines of a reply, without the white space around them. Only a line feed ends a line, as in a pattern of Python's
/// with `(?m)`: U+2028 and the like are white space.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(python::strip)
}
