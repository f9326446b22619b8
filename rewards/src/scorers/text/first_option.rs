//! The first option letter of a text: the extractor behind LLaDA-Instruct's MMLU and ARC-C.
//!
//! Source: OpenCompass `first_option_postprocess(text, 'ABCD')`. Its patterns are tried in order and the first match
//! decides. Two of its patterns are merged into one because a comma is missing in its list; this is reproduced.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::super::case::Case;
use super::super::{ScoreError, pattern, python};

/// OpenCompass' patterns for the options A to D, in its order; the last two are its last resort.
#[rustfmt::skip]
const PATTERNS: [&str; 52] = [
    r"答案是?\s*([ABCD])",
    r"答案是?\s*：\s*([ABCD])",
    r"答案是?\s*:\s*([ABCD])",
    r"答案选项应?该?是\s*([ABCD])",
    r"答案选项应?该?为\s*([ABCD])",
    r"答案应该?是\s*([ABCD])",
    r"答案应该?选\s*([ABCD])",
    r"答案选项为?\s*：\s*([ABCD])",
    r"答案选项为?\s+\(?\*?\*?([ABCD])\*?\*?\)?",
    r"答案选项是?\s*:\s*([ABCD])",
    r"答案为\s*([ABCD])",
    r"答案选\s*([ABCD])",
    r"选择?\s*([ABCD])",
    r"故选?\s*([ABCD])只有选?项?\s?([ABCD])\s?是?对",
    r"只有选?项?\s?([ABCD])\s?是?错",
    r"只有选?项?\s?([ABCD])\s?不?正确",
    r"只有选?项?\s?([ABCD])\s?错误",
    r"说法不?对选?项?的?是\s?([ABCD])",
    r"说法不?正确选?项?的?是\s?([ABCD])",
    r"说法错误选?项?的?是\s?([ABCD])",
    r"([ABCD])\s?是正确的",
    r"([ABCD])\s?是正确答案",
    r"选项\s?([ABCD])\s?正确",
    r"所以答\s?([ABCD])",
    r"所以\s?([ABCD][.。$]?$)",
    r"所有\s?([ABCD][.。$]?$)",
    r"[\s，：:,]([ABCD])[。，,\.]?$",
    r"[\s，,：:][故即]([ABCD])[。\.]?$",
    r"[\s，,：:]因此([ABCD])[。\.]?$",
    r"[是为。]\s?([ABCD])[。\.]?$",
    r"因此\s?([ABCD])[。\.]?$",
    r"显然\s?([ABCD])[。\.]?$",
    r"答案是\s?(\S+)(?:。|$)",
    r"答案应该是\s?(\S+)(?:。|$)",
    r"答案为\s?(\S+)(?:。|$)",
    r"(?i)ANSWER\s*:\s*([ABCD])",
    r"[Tt]he answer is:?\s+\(?([ABCD])\)?",
    r"[Tt]he answer is:?\s+\(?\*?\*?([ABCD])\*?\*?\)?",
    r"[Tt]he answer is option:?\s+\(?([ABCD])\)?",
    r"[Tt]he correct answer is:?\s+\(?([ABCD])\)?",
    r"[Tt]he correct answer is option:?\s+\(?([ABCD])\)?",
    r"[Tt]he correct answer is:?.*?boxed\{([ABCD])\}",
    r"[Tt]he correct option is:?.*?boxed\{([ABCD])\}",
    r"[Tt]he correct answer option is:?.*?boxed\{([ABCD])\}",
    r"[Tt]he answer to the question is:?\s+\(?([ABCD])\)?",
    r"^选项\s?([ABCD])",
    r"^([ABCD])\s?选?项",
    r"(\s|^)[ABCD][\s。，,：:\.$]",
    r"1.\s?(.*?)$",
    r"1.\s?([ABCD])[.。$]?$",
    r"([ABCD]):",
    r"([ABCD])",
];

static COMPILED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    PATTERNS
        .iter()
        .map(|text| pattern(&format!("(?s){text}")))
        .collect()
});

/// Compares the extracted letter with the reference.
///
/// # Errors
/// An error if a field is missing.
pub fn verdict(case: &Case<'_>) -> Result<Value, ScoreError> {
    let extracted = first_option(case.text(&["prediction"])?);
    let correct = extracted == case.text(&["reference", "answer"])?;
    Ok(json!({ "extracted": extracted, "correct": correct }))
}

/// Extracts the letter; empty if there is none. If a pattern's group holds no letter, the later patterns decide.
pub fn first_option(text: &str) -> &'static str {
    let text = python::strip(text);
    let letters = COMPILED.iter().filter_map(|pattern| {
        let found = pattern.captures(text)?;
        let part = found
            .get(1)
            .filter(|group| !group.is_empty())
            .or_else(|| found.get(0))?;
        ["A", "B", "C", "D"]
            .into_iter()
            .find(|letter| part.as_str().contains(letter))
    });
    letters.into_iter().next().unwrap_or("")
}
