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
    let [official, lmms] = letters(reply, &options);
    let said = |letter: Option<char>| letter.map_or_else(|| "RANDOM".to_owned(), String::from);
    Ok(json!({
        "official": said(official),
        "random": official.is_none(),
        "lmms_eval": said(lmms),
    }))
}

/// Where a reply names an option's letter.
#[derive(Debug, Clone, Copy, Default)]
struct LetterPlaces {
    /// The last `(A)`.
    bracketed: Option<usize>,
    /// The last ` A `.
    alone: Option<usize>,
    /// Whether there is `A `, with anything before it.
    is_before_space: bool,
    /// Whether there is `A.`.
    is_before_stop: bool,
}

/// MMMU's `parse_multi_choice_response`, and lmms-eval's, which searches `A ` and `A.` without a space before.
fn letters(reply: &str, options: &[&str]) -> [Option<char>; 2] {
    let stripped = [',', '.', '!', '?', ';', ':', '\'']
        .into_iter()
        .fold(reply, |reply, sign| reply.trim_matches(sign));
    let reply = format!(" {stripped} ");
    let places = letter_places(&reply, options.len());
    let nth = |at: usize| ('A'..).nth(at);
    let bracketed = last(places.iter().map(|places| places.bracketed.map(Some)));
    if let Some(at) = bracketed {
        return [nth(at); 2];
    }
    let official = last(places.iter().map(|places| places.alone.map(Some)));
    // A letter that is found, but not alone, stands before all others.
    let found = |is_found: fn(&LetterPlaces) -> bool| {
        last(
            places
                .iter()
                .map(|places| is_found(places).then_some(places.alone)),
        )
    };
    let lmms = found(|places| places.is_before_space).or_else(|| found(|places| places.is_before_stop));
    let by_text = if official.is_some() && lmms.is_some() {
        None
    } else {
        last_text(&reply, options)
    };
    [official.or(by_text), lmms.or(by_text)].map(|at| at.and_then(nth))
}

/// Finds the places of the first `count` letters in one pass over a reply.
fn letter_places(reply: &str, count: usize) -> Vec<LetterPlaces> {
    let mut places = vec![LetterPlaces::default(); count];
    let (mut before, mut letter) = ('\0', '\0');
    for (at, after) in reply.char_indices() {
        let number = (letter as usize).checked_sub('A' as usize);
        if let Some(of) = number.and_then(|number| places.get_mut(number)) {
            match (before, after) {
                ('(', ')') => of.bracketed = Some(at),
                (' ', ' ') => of.alone = Some(at),
                _ => {}
            }
            of.is_before_space |= after == ' ';
            of.is_before_stop |= after == '.';
        }
        (before, letter) = (letter, after);
    }
    places
}

/// Returns the number of the candidate whose last occurrence is rightmost, the first of equals. `None` is no candidate,
/// and `Some(None)` one without a place, which is left of all places.
fn last(candidates: impl Iterator<Item = Option<Option<usize>>>) -> Option<usize> {
    let candidates = candidates
        .enumerate()
        .filter_map(|(at, place)| Some((place?, at)));
    let best = candidates.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, at)| at)
}

/// Returns the option whose text is last in a reply of more than five words.
fn last_text(reply: &str, options: &[&str]) -> Option<usize> {
    reply
        .split(python::is_space)
        .filter(|word| !word.is_empty())
        .nth(5)?;
    let lower = reply.to_lowercase();
    last(
        options
            .iter()
            .map(|option| lower.rfind(&option.to_lowercase()).map(Some)),
    )
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
    // Every pattern has a digit, and most texts have none.
    if !text.contains(char::is_numeric) {
        return Vec::new();
    }
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
