//! A letter parsed from a generated answer: GPQA and ARC as chat, and GPQA's clean-up of its texts.
//!
//! Source: lm-eval 0.4.8 tasks `gpqa_*_generative_n_shot`, `arc_challenge_chat` with its `regex`, `multi_choice_regex`
//! and `remove_whitespace` filters; OpenCompass' and LLaDA's postprocessors of GPQA.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, pattern, python};

static PARENTHESES: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\([A-Z]\))"));
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\p{P}"));
static CORRECT_ANSWER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)The correct answer is \(([^)]+)\)"));
static SIMPLE_EVALS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)ANSWER\s*:\s*([A-D])"));
static BRACKETS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[[^\n]*?\]"));

/// Scores a generated answer to GPQA by every extractor.
///
/// # Errors
/// An error if a field is missing.
pub fn gpqa(case: &Case<'_>) -> Result<Value, ScoreError> {
    let output = case.text(&["prediction"])?;
    let answer = case.text(&["answer"])?;
    let choices = case.texts(&["choices"])?;
    let group = |pattern: &Regex| Some(pattern.captures(output)?.get(1)?.as_str().to_owned());
    Ok(json!({
        "lm_eval": {
            "strict-match": matched(strict(output), answer),
            "flexible-extract": matched(flexible(output, &choices), answer),
        },
        "opencompass_correct_answer_is": group(&CORRECT_ANSWER).map_or_else(|| " ".to_owned(), |text| python::strip(&text).to_owned()),
        "simple_evals_answer": group(&SIMPLE_EVALS),
    }))
}

/// Scores a generated answer to ARC after removing its leading white space.
///
/// # Errors
/// An error if a field is missing.
pub fn arc(case: &Case<'_>) -> Result<Value, ScoreError> {
    let output = python::strip_start(case.text(&["prediction"])?).to_owned();
    Ok(json!({ "remove_whitespace": matched(output, case.text(&["reference", "answer"])?) }))
}

/// Cleans up a question or choice of GPQA, as in lm-eval 0.4.8 and in version 2.2 of the task.
///
/// # Errors
/// An error if the prediction is not a text.
pub fn preprocess(case: &Case<'_>) -> Result<Value, ScoreError> {
    let text = case.need(&["prediction"])?;
    if text.is_null() {
        return Ok(json!({ "v0_4_8": " ", "v2_2": " " }));
    }
    let text = python::strip(case.text(&["prediction"])?).replace(" [title]", ". ");
    let without = BRACKETS.replace_all(&text, "").replace("  ", " ");
    Ok(json!({ "v0_4_8": without, "v2_2": text.replace("  ", " ") }))
}

fn matched(extracted: String, gold: &str) -> Value {
    let plain = |text: &str| python::without_punctuation(&text.to_lowercase());
    let same = plain(&extracted) == plain(gold);
    json!({ "extracted": extracted, "exact_match": if same { 1.0 } else { 0.0 } })
}

/// Matches `(?<=The answer is )(.*)(?=.)`: the rest of the line without its last character.
fn strict(output: &str) -> String {
    const ANCHOR: &str = "The answer is ";
    for (at, _) in output.match_indices(ANCHOR) {
        let rest = &output[at + ANCHOR.len()..];
        let line = rest.split('\n').next().unwrap_or(rest);
        if let Some((last, _)) = line.char_indices().last() {
            return python::strip(&line[..last]).to_owned();
        }
    }
    "[invalid]".to_owned()
}

fn flexible(output: &str, choices: &[&str]) -> String {
    if let Some(found) = PARENTHESES.find_iter(output).last() {
        return found.as_str().to_owned();
    }
    let letters: Vec<String> = ('A'..).take(choices.len()).map(String::from).collect();
    choice_text(output, choices)
        .filter(|found| !found.is_empty())
        .or_else(|| after_colon(output, &letters))
        .unwrap_or_else(|| "[invalid]".to_owned())
}

/// Returns the letter of the choice whose text occurs last.
fn choice_text(output: &str, choices: &[&str]) -> Option<String> {
    let plain = |text: &str| PUNCTUATION.replace_all(&text.to_lowercase(), "").into_owned();
    let texts: Vec<String> = choices
        .iter()
        .map(|choice| plain(python::strip(choice)))
        .collect();
    // A choice without letters matches the empty string at the end of every text, and Python takes that match.
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return None;
    }
    let any = pattern(
        &texts
            .iter()
            .map(|text| regex::escape(text))
            .collect::<Vec<_>>()
            .join("|"),
    );
    let output = plain(output);
    let found = python::strip(any.find_iter(&output).last()?.as_str()).to_owned();
    let letter = texts
        .iter()
        .rposition(|text| *text == found)
        .and_then(|at| char::from_u32('A' as u32 + at as u32));
    Some(letter.map_or(found, |letter| format!("({letter})")))
}

fn after_colon(output: &str, letters: &[String]) -> Option<String> {
    let any = pattern(&format!(r":[\s]*({})", letters.join("|")));
    let letter = any.captures_iter(output).last()?.get(1)?.as_str();
    Some(format!("({letter})"))
}
