//! MMMU: parsing of a letter or number from a reply.
//!
//! Source: MMMU `eval_utils.py`; lmms-eval's variant of the letters.

use std::sync::LazyLock;

use fancy_regex::Regex;
use serde_json::{Value, json};

use super::super::case::{Case, float};
use super::super::{ScoreError, python};

// Python's `\b` is spelt out: its words have superscripts and fractions, but no combining marks.
static COMMAS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"-?(?<![\p{L}\p{N}_])\d{1,3}(?:,\d{3})+(?![\p{L}\p{N}_])").ok());
static SCIENTIFIC: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"-?\d+(?:\.\d+)?[eE][+-]?\d+").ok());
static SIMPLE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"-?(?:\d+\.\d+|\.\d+|\d+(?![\p{L}\p{N}_]))(?![eE][+-]?\d+)(?![,\d])").ok());

/// Parses a letter from a reply; `RANDOM` where the official code would guess.
///
/// # Errors
/// An error if a field is missing.
pub fn choice(case: &Case<'_>) -> Result<Value, ScoreError> {
    let options = case.texts(&["options", "reference"])?;
    let reply = case.text(&["response", "prediction"])?;
    let official = letter(reply, &options, false);
    Ok(json!({
        "official": official.clone().unwrap_or_else(|| "RANDOM".to_owned()),
        "random": official.is_none(),
        "lmms_eval": letter(reply, &options, true).unwrap_or_else(|| "RANDOM".to_owned()),
    }))
}

/// MMMU's `parse_multi_choice_response`, or lmms-eval's, which searches `A ` and `A.` without a space before.
fn letter(reply: &str, options: &[&str], is_lmms: bool) -> Option<String> {
    let stripped = [',', '.', '!', '?', ';', ':', '\'']
        .into_iter()
        .fold(reply, |reply, sign| reply.trim_matches(sign));
    let reply = format!(" {stripped} ");
    let lower = reply.to_lowercase();
    let letters: Vec<String> = ('A'..).take(options.len()).map(String::from).collect();
    let having = |form: &dyn Fn(&str) -> String| -> Vec<usize> {
        (0..letters.len())
            .filter(|i| reply.contains(&form(&letters[*i])))
            .collect()
    };
    let alone = |letter: &str| format!(" {letter} ");
    let mut candidates = having(&|letter| format!("({letter})"));
    let mut place: Box<dyn Fn(usize) -> Option<usize>> =
        Box::new(|i| reply.rfind(&format!("({})", letters[i])));
    if candidates.is_empty() {
        candidates = if is_lmms {
            having(&|letter| format!("{letter} "))
        } else {
            having(&alone)
        };
        if is_lmms && candidates.is_empty() {
            candidates = having(&|letter| format!("{letter}."));
        }
        place = Box::new(|i| reply.rfind(&alone(&letters[i])));
    }
    if candidates.is_empty() && python::words(&reply).len() > 5 {
        candidates = (0..options.len())
            .filter(|i| lower.contains(&options[*i].to_lowercase()))
            .collect();
        place = Box::new(|i| lower.rfind(&options[i].to_lowercase()));
    }
    // The candidate whose last occurrence is rightmost; the first of equals.
    let best = candidates
        .into_iter()
        .map(|i| (place(i).map_or(-1, |at| at as i64), i))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, i)| letters[i].clone())
}

/// A normalised answer: a number or a text.
#[derive(Debug, Clone, PartialEq)]
pub enum NormalizedAnswer {
    /// A number, rounded to two places.
    Number(f64),
    /// A lower-case text.
    Text(String),
}

impl NormalizedAnswer {
    fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => float(*number),
            Self::Text(text) => json!(text),
        }
    }
}

/// MMMU's `normalize_str`: a number if Python's `float` reads one; a text of one character becomes two with a space.
fn normalise(text: &str) -> Vec<NormalizedAnswer> {
    let text = python::strip(text);
    if let Some(number) = python::float(&text.replace(',', "")) {
        return vec![NormalizedAnswer::Number(python::round(number, 2))];
    }
    let text = text.to_lowercase();
    if python::length(&text) == 1 {
        return vec![
            NormalizedAnswer::Text(format!(" {text}")),
            NormalizedAnswer::Text(format!("{text} ")),
        ];
    }
    vec![NormalizedAnswer::Text(text)]
}

/// Finds the numbers in a text: those with commas, then those with exponents, then the others.
fn extract_numbers(text: &str) -> Vec<&str> {
    let patterns = [&COMMAS, &SCIENTIFIC, &SIMPLE];
    patterns
        .into_iter()
        .filter_map(|pattern| pattern.as_ref())
        .flat_map(|pattern| {
            pattern
                .find_iter(text)
                .filter_map(Result::ok)
                .map(|found| found.as_str())
        })
        .collect()
}

/// MMMU's `parse_open_response`: a set, numbers first, then texts, each sorted as text.
pub(super) fn parse_open(reply: &str) -> Vec<NormalizedAnswer> {
    let keys = key_parts(reply);
    let mut found: Vec<NormalizedAnswer> = Vec::new();
    let numbers = keys
        .iter()
        .flat_map(|key| extract_numbers(key))
        .map(str::to_owned);
    for text in keys.iter().cloned().chain(numbers) {
        for normal in normalise(&text) {
            if !found.contains(&normal) {
                found.push(normal);
            }
        }
    }
    found.sort_by(|a, b| match (a, b) {
        (NormalizedAnswer::Number(a), NormalizedAnswer::Number(b)) => format!("{a:?}").cmp(&format!("{b:?}")),
        (NormalizedAnswer::Number(_), NormalizedAnswer::Text(_)) => std::cmp::Ordering::Less,
        (NormalizedAnswer::Text(_), NormalizedAnswer::Number(_)) => std::cmp::Ordering::Greater,
        (NormalizedAnswer::Text(a), NormalizedAnswer::Text(b)) => a.cmp(b),
    });
    found
}

fn key_parts(reply: &str) -> Vec<String> {
    let lower = python::strip(reply).trim_matches('.').to_lowercase();
    let parts: Vec<&str> = lower.split('\n').collect();
    let mut keys = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let mut words = vec![
            "could be ",
            "so ",
            "is ",
            "thus ",
            "therefore ",
            "final ",
            "answer ",
            "result ",
        ];
        words.extend((i + 1 == parts.len()).then_some("="));
        let mut shortest = "";
        for word in words {
            let Some(at) = part.rfind(word) else { continue };
            let tail = python::strip(&part[at + word.len()..]);
            if shortest.is_empty() || python::length(tail) < python::length(shortest) {
                shortest = tail;
            }
        }
        if !shortest.is_empty() && ![":", ",", ".", "!", "?", ";", "'"].contains(&shortest) {
            keys.push(shortest.to_owned());
        }
    }
    if keys.is_empty() { vec![lower] } else { keys }
}

pub(super) fn golds(gold: &Value) -> Vec<NormalizedAnswer> {
    match gold {
        Value::Array(golds) => golds
            .iter()
            .filter_map(Value::as_str)
            .flat_map(normalise)
            .collect(),
        gold => gold.as_str().map_or_else(Vec::new, normalise),
    }
}

/// MMMU's `eval_open`: a predicted number equals a reference, or a predicted text contains a reference text.
pub(super) fn is_right(golds: &[NormalizedAnswer], predicted: &[NormalizedAnswer]) -> bool {
    predicted.iter().any(|said| match said {
        NormalizedAnswer::Number(_) => golds.contains(said),
        NormalizedAnswer::Text(said) => golds
            .iter()
            .any(|gold| matches!(gold, NormalizedAnswer::Text(gold) if said.contains(gold.as_str()))),
    })
}

fn listed(normals: &[NormalizedAnswer]) -> Value {
    normals.iter().map(NormalizedAnswer::to_json).collect()
}

/// Scores an open question.
///
/// # Errors
/// An error if a field is missing.
pub fn open(case: &Case<'_>) -> Result<Value, ScoreError> {
    let parsed = parse_open(case.text(&["response", "prediction"])?);
    let golds = golds(case.need(&["answer", "reference"])?);
    Ok(
        json!({ "official_parsed": listed(&parsed), "official_correct": is_right(&golds, &parsed), "normalised_answer": listed(&golds) }),
    )
}

/// MMMU's `extract_numbers` of a text.
///
/// # Errors
/// An error if the text is missing.
pub fn numbers(case: &Case<'_>) -> Result<Value, ScoreError> {
    Ok(json!({ "official": extract_numbers(case.text(&["text", "prediction"])?) }))
}

/// MMMU's `normalize_str` of a text.
///
/// # Errors
/// An error if the text is missing.
pub fn normalised(case: &Case<'_>) -> Result<Value, ScoreError> {
    Ok(json!({ "official": listed(&normalise(case.text(&["text", "prediction"])?)) }))
}
