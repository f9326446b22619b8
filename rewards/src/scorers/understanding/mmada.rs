//! The post-processing of replies in MMaDA's copy of VLMEvalKit, before any scorer.
//!
//! Source: Gen-Verse/MMaDA `post_process_response`, then `.strip()`.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::super::python;

/// A letter that stands alone as in Python, for which a superscript or fraction is part of a word.
static LETTER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?<![\p{L}\p{N}_])[A-E](?![\p{L}\p{N}_])").ok());

/// Reduces a yes-or-no reply: by what its lower-case text contains, else by how it begins; else it stays.
pub fn yes_or_no(reply: &str) -> String {
    said(reply).map_or_else(|| python::strip(reply).to_owned(), str::to_owned)
}

/// Like [`yes_or_no`], for MME: a long reply that says neither keeps three words.
pub fn mme(reply: &str) -> String {
    if let Some(said) = said(reply) {
        return said.to_owned();
    }
    let words = python::words(reply);
    if python::length(reply) > 10 && words.len() > 3 {
        return words[..3].join(" ");
    }
    python::strip(reply).to_owned()
}

fn said(reply: &str) -> Option<&'static str> {
    let lower = reply.to_lowercase();
    match (lower.contains("yes"), lower.contains("no")) {
        (true, false) => Some("Yes"),
        (false, true) => Some("No"),
        _ if lower.starts_with("yes") => Some("Yes"),
        _ if lower.starts_with("no") => Some("No"),
        _ => None,
    }
}

/// Reduces a choice to the last letter A to E that stands alone; else the reply stays.
pub fn choice(reply: &str) -> String {
    let found = LETTER.iter().flat_map(|letter| letter.find_iter(reply));
    let letter = found.filter_map(Result::ok).last();
    letter
        .map_or_else(|| python::strip(reply), |letter| letter.as_str())
        .to_owned()
}
