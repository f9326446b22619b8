//! OpenCompass' grader of MATH, version 2, which works on strings only.
//!
//! Source: OpenCompass `math_postprocess_v2`, `MATHEvaluator('v2')`.

use std::sync::LazyLock;

use regex::Regex;

use super::super::super::{pattern, python};
use super::boxed;
use super::minerva::{REMOVED, REPLACED, shorthand};
use super::strings::{braced_fractions, replace_all, slashed, without_name};

static TEXT_AT_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\text\{.*?\}$"));
static MBOX: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\mbox\{.*?\}"));
static ZEROS_INSIDE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d+)\.0+([^\d])"));
static ZEROS_AT_END: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\d+)\.0+$"));
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\sqrt([\p{L}\p{N}_]+)"));
static UNWRAPPED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"\\text\{\((.*?)\)\}",
        r"\\text\{(.*?)\}",
        r"\\textbf\{(.*?)\}",
        r"\\overline\{(.*?)\}",
        r"\\boxed\{(.*)\}",
    ]
    .iter()
    .map(|text| pattern(text))
    .collect()
});
static ANNOUNCED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"finalansweris(.*)",
        r"answer?is:?(.*)",
        r"oxed\{(.*?)\}",
        r"\$(.*?)\$",
    ]
    .iter()
    .map(|text| pattern(text))
    .collect()
});

/// Extracts the answer of an output: the last box, else the sentence that announces it, else the first sentence.
pub fn extracted(output: &str) -> String {
    if let Some(answer) = boxed::opencompass(output, true).filter(|answer| !answer.is_empty()) {
        return answer;
    }
    let is_announced = |part: &&str| {
        let lower = part.to_lowercase();
        lower.contains("final answer") || lower.contains("answer is")
    };
    let part = output
        .split('.')
        .find(is_announced)
        .or_else(|| output.split('.').next());
    normalised(part.unwrap_or(output))
}

/// OpenCompass' `normalize_final_answer`.
fn normalised(answer: &str) -> String {
    let text = replace_all(&replace_all(answer, &REPLACED), &[("\\le", "<")]);
    let mut text = REMOVED
        .iter()
        .chain(&["\"", "\\dots", "\n", "\r", "\u{c}"])
        .fold(text, |text, word| text.replace(word, ""));
    for command in UNWRAPPED.iter() {
        text = command.replace_all(&text, "${1}").into_owned();
    }
    for announced in ANNOUNCED.iter() {
        if let Some(found) = announced.captures_iter(&text).last() {
            text = found[1].to_owned();
        }
    }
    let mut text = python::strip(&text).to_owned();
    if text.contains("rac") && !text.contains("\\frac") {
        text = text.replace("rac", "\\frac");
    }
    shorthand(&text)
}

/// OpenCompass' `_strip_string_v2`; `None` where the official code raises.
fn stripped(text: &str) -> Option<String> {
    // The replacements and their order are the official ones, including the repeated and the misspelt ones.
    let text = python::strip(text).replace('\n', "");
    let text = replace_all(
        text.trim_end_matches('.'),
        &[
            ("\\!", ""),
            ("\\ ", ""),
            ("\\\\", "\\"),
            ("\\\\", "\\"),
            ("tfrac", "frac"),
            ("dfrac", "frac"),
            ("\\left", ""),
            ("\\right", ""),
        ],
    );
    let without = python::strip(&TEXT_AT_END.replace_all(&text, "")).to_owned();
    let text = if without.is_empty() { text } else { without };
    let mut text = replace_all(
        &text,
        &[
            ("^{\\circ}", ""),
            ("^\\circ", ""),
            ("\\$", ""),
            ("$", ""),
            ("\\text", ""),
            ("x\\in", ""),
            ("\\%", ""),
            ("%", ""),
            (" .", " 0."),
            ("{.", "{0."),
            ("\\cdot", ""),
            ("infinity", "\\infty"),
        ],
    );
    if !text.contains("\\infty") {
        text = text.replace("inf", "\\infty");
    }
    text = replace_all(&text, &[("+\\inity", "\\infty"), ("and", ""), ("\\mathbf", "")]);
    text = MBOX.replace_all(&text, "").into_owned();
    if text.contains('j') && !text.contains('i') {
        text = text.replace('j', "i");
    }
    text = ZEROS_INSIDE.replace_all(&text, "${1}${2}").into_owned();
    text = ZEROS_AT_END.replace_all(&text, "${1}").into_owned();
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    let text = ROOT
        .replace_all(&without_name(&text), "\\sqrt{${1}}")
        .replace(' ', "");
    slashed(&braced_fractions(&text, true).ok()?).ok()
}

/// OpenCompass' `is_equiv`: equal after one clean-up, after both, after the other, or as they are.
pub fn is_equivalent(a: &str, b: &str) -> bool {
    if let (Some(a), Some(b)) = (stripped(a), stripped(b))
        && (a == b || normalised(&a) == normalised(&b))
    {
        return true;
    }
    normalised(a) == normalised(b) || a == b
}
