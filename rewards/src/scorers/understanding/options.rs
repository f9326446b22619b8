//! VLMEvalKit's matching of a reply to options, `can_infer`, in three versions.
//!
//! Source: VLMEvalKit e8e78f0 ("head"), MMaDA's older copy of it ("fork"), and lmms-eval's own.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::super::{pattern, python};

static ANSWER_IS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**"));

/// Replies that are refusals.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];

/// A version of the matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MMaDA's copy.
    Fork,
    /// VLMEvalKit's head.
    Head,
}

/// Returns the existing options by letter.
pub fn options(row: &Map<String, Value>) -> Vec<(String, String)> {
    ('A'..='Z')
        .filter_map(|letter| {
            let text = match row.get(letter.to_string().as_str())? {
                Value::Null => return None,
                Value::String(text) if text == "__nan__" => return None,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((letter.to_string(), text))
        })
        .collect()
}

/// Returns the letter that a reply means, `Z` for a refusal, or `None`.
pub fn infer(reply: &str, options: &[(String, String)], version: Version) -> Option<String> {
    by_letter(reply, options, version).or_else(|| by_text(reply, options, version))
}

/// Converts the result to JSON: a letter or false.
pub fn inferred(found: Option<String>) -> Value {
    found.map_or(json!(false), Value::from)
}

fn by_letter(reply: &str, options: &[(String, String)], version: Version) -> Option<String> {
    if reply.contains("Failed to obtain answer via API") {
        return None;
    }
    if REFUSALS.iter().any(|refusal| reply.contains(refusal)) {
        return Some("Z".to_owned());
    }
    let spaced = reply.replace(
        ['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'],
        " ",
    );
    let words = python::words(&spaced);
    let present: Vec<&String> = options
        .iter()
        .map(|(letter, _)| letter)
        .filter(|letter| words.contains(&letter.as_str()))
        .collect();
    match present[..] {
        [letter] => {
            let is_late = words
                .iter()
                .position(|word| word == letter)
                .is_some_and(|at| at + 5 > words.len());
            if version == Version::Fork || is_late {
                return Some(letter.clone());
            }
        }
        [] if words.contains(&"Z") => return Some("Z".to_owned()),
        _ => {}
    }
    if version == Version::Fork {
        return None;
    }
    ANSWER_IS.captures(reply).map(|found| found[1].to_uppercase())
}

/// Returns the only option whose text is in the reply; head ignores long replies.
fn by_text(reply: &str, options: &[(String, String)], version: Version) -> Option<String> {
    let lower = reply.to_lowercase();
    let total: usize = options.iter().map(|(_, text)| python::length(text)).sum();
    if version == Version::Head && python::length(&lower) > 2 * total {
        return None;
    }
    only(options, &lower)
}

fn only(options: &[(String, String)], lower: &str) -> Option<String> {
    let mut found = options
        .iter()
        .filter(|(_, text)| lower.contains(&text.to_lowercase()));
    let first = found.next()?;
    found.next().is_none().then(|| first.0.clone())
}

/// lmms-eval's matching: five letters in forms such as `A.` and `(A)`, then the text of options A to D.
pub fn infer_lmms(reply: &str, options: &[(String, String)]) -> Value {
    if let Some(letter) = lmms_letter(reply) {
        return json!(letter);
    }
    if options
        .iter()
        .any(|(letter, _)| !"ABCD".contains(letter.as_str()))
    {
        return json!({ "error": "AssertionError" });
    }
    inferred(only(options, &reply.to_lowercase()))
}

fn lmms_letter(reply: &str) -> Option<String> {
    if reply.contains("Failed to obtain answer via API") {
        return None;
    }
    let words = python::words(reply);
    const FORMS: [(&str, &str); 13] = [
        ("", ""),
        ("", "."),
        ("", ","),
        ("", ":"),
        ("", ")"),
        ("", ")."),
        ("(", ")"),
        ("(", ")."),
        (":", ""),
        (":", ","),
        (":", "."),
        (":", ")"),
        (":", ")."),
    ];
    FORMS.iter().enumerate().find_map(|(i, (before, after))| {
        let present: Vec<char> = ('A'..='E')
            .filter(|letter| words.contains(&format!("{before}{letter}{after}").as_str()))
            .collect();
        // A bare A among more than three words may be an article.
        let is_article = i == 0 && words.contains(&"A") && words.len() > 3;
        if let [letter] = present[..]
            && !is_article
        {
            Some(letter.to_string())
        } else {
            None
        }
    })
}
