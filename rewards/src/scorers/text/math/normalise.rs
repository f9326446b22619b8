//! The normalisation of LaTeX before math-verify parses it.
//!
//! Source: `latex2sympy2_extended` 1.10.2 `normalize_latex` with math-verify's configuration.

use std::borrow::Cow;
use std::sync::LazyLock;

use fancy_regex::{Captures, Regex, RegexBuilder, Replacer};

use super::super::super::{pattern, python};
use super::strings::{replace_all, slashed};
use super::units::UNITS;

/// The most steps back in one search (law L9): a run of blanks takes the square of its length.
const MOST_STEPS: usize = 10_000_000;

/// Which boxes are extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boxes {
    /// All, joined by commas.
    All,
    /// The last one, with the adjacent ones.
    Last,
}

static LEFT: LazyLock<regex::Regex> = LazyLock::new(|| {
    pattern(
        r"\\m?left(\\\{|\{|\\\||\||\[|\(|\\rbracl|\\lgroup|\\lbrace|\\lbrack|\\vert|\\lvert|\\lceil|\\lfloor|\\langle|\\llcorner|\\ulcorner)",
    )
});
static RIGHT: LazyLock<regex::Regex> = LazyLock::new(|| {
    pattern(
        r"\\m?right(\\\}|\}|\\\||\||\]|\)|\\rbrack|\\rgroup|\\rbrace|\\vert|\\rvert|\\rceil|\\rfloor|\\rangle|\\lrcorner|\\urcorner)",
    )
});
static PERMUTATION: LazyLock<regex::Regex> =
    LazyLock::new(|| pattern(r"\(([a-zA-Z0-9+\-*/\\ ]+?)\)_\{([a-zA-Z0-9+\-*/\\ ]+?)\}"));
static REMOVED: LazyLock<Option<Regex>> =
    LazyLock::new(|| bounded(r#"\\mathrm\{th\}|\\!\s*|\\text\s*\{\s*\}|\\\$|\$|(?<!\\)["']|\\displaystyle"#));
static REPLACED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let groups: Vec<String> = REPLACEMENTS.iter().map(|(text, _)| format!("({text})")).collect();
    bounded(&groups.join("|"))
});
static DOUBLE_SLASH: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"\\\\([a-zA-Z])"));
static UNIT_TEXT: LazyLock<regex::Regex> =
    LazyLock::new(|| pattern(r"(\\(?:text|mbox)\{.*?\})(\^\d|\{\^\d\})?$"));
static UNIT: LazyLock<regex::Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(\d|\}}|\s)\s*(?:(?:{})(?:s|es)?)\s*$",
        UNITS.join("|")
    ))
});
static OPERATORS: LazyLock<Vec<(regex::Regex, &str)>> = LazyLock::new(|| {
    let pairs = [
        (r"\^\s?\((.*?)\)", "^{${1}}"),
        (r"sqrt\s?\((.*?)\)", "\\sqrt{${1}}"),
        (r"\\frac\s?(\d)\s?(\d+)", "\\frac{${1}}{${2}}"),
        (r"\\log_\s?(\d)\s?(\d+)", "\\log_{${1}}{${2}}"),
        (r"\\frac\s?\{(.*?)\}\s?(\d)", "\\frac{${1}}{${2}}"),
        (r"\\frac\s?(\d)\s?\{(.*?)\}", "\\frac{${1}}{${2}}"),
        (r"\\sqrt\s?(\d)", "\\sqrt{${1}}"),
    ];
    pairs.iter().map(|(from, to)| (pattern(from), *to)).collect()
});

/// Pattern replacements, the first match at a place; no group captures.
#[rustfmt::skip]
const REPLACEMENTS: [(&str, &str); 20] = [
    (r"\\math(?:rm|it|bf)", "\\text"), (r"\\text(?:normal|bf|it|rm)", "\\text"), (r"\\(?:d|t|c)frac", "\\frac"), (r"\s\.", " 0."), (r"\{\.", "{0."),
    (r"~=", "\\approx"), (r"\s*\{\s*,\s*\}", ","), (r"(?<![a-zA-Z])(?:,?\s*(?:and|or))(?![a-zA-Z])", ","), (r"(?:,?\s*\\text\{\s*(?:and|or)\s*\})", ","),
    (r"(?<!\\)\\\s", " "), (r"infinity", "\\infty"), (r",?(?:\\ldots)", " "), (r"\s*percentage", "\\%"), (r"\\text\{percentage\}", "\\%"),
    (r"\s*percent", "\\%"), (r"\\text\{percent\}", "\\%"), (r"\s*pct", "\\%"), (r"\\text\{pct\}", "\\%"), (r"(?:(?<!\\)inf(?!inity))", "\\infty"), (r" sqrt", "\\sqrt"),
];

/// Compiles a pattern that gives up after [`MOST_STEPS`].
fn bounded(text: &str) -> Option<Regex> {
    RegexBuilder::new(text).backtrack_limit(MOST_STEPS).build().ok()
}

/// Replaces every match. A text on which the pattern gives up stays as it is: a model may write blanks without end, and
/// no reply may end the evaluation.
fn replaced(text: &str, pattern: Option<&Regex>, replacement: impl Replacer) -> String {
    let done = pattern.and_then(|pattern| pattern.try_replacen(text, 0, replacement).ok());
    done.map_or_else(|| text.to_owned(), Cow::into_owned)
}

/// Normalises a text.
pub fn normalised(text: &str, boxes: Boxes) -> String {
    let text = basic(&boxed(text, boxes));
    let text = without_units(text);
    let text = match text.as_str() {
        "0.5" => "\\frac{1}{2}".to_owned(),
        other if other.starts_with('.') => format!("0{other}"),
        _ => text,
    };
    python::strip(&operators(&text)).to_owned()
}

fn basic(text: &str) -> String {
    let text = replace_all(
        text,
        &[
            ("\\mathrm{T}", "T"),
            ("\\mathrm{d}", "d"),
            ("{\\rm d}", "d"),
            ("\\left[\\begin{matrix}", "\\begin{bmatrix}"),
            ("\\end{matrix}\\right]", "\\end{bmatrix}"),
        ],
    );
    let text = LEFT.replace_all(&text, "${1}");
    let text = RIGHT.replace_all(&text, "${1}");
    let text = PERMUTATION
        .replace_all(&text, "\\frac{(${1})!}{((${1})-(${2}))!}")
        .into_owned();
    let text = replaced(&text, REMOVED.as_ref(), "");
    let replacement = |found: &Captures<'_>| {
        let which = (0..REPLACEMENTS.len()).find(|i| found.get(i + 1).is_some());
        which.map_or_else(String::new, |i| REPLACEMENTS[i].1.to_owned())
    };
    let text = replaced(&text, REPLACED.as_ref(), replacement);
    let text = text.replace(['\n', '\t'], " ");
    if text.contains("matrix") {
        text
    } else {
        DOUBLE_SLASH.replace_all(&text, "\\${1}").into_owned()
    }
}

fn without_units(mut text: String) -> String {
    let without = python::strip(&UNIT_TEXT.replace_all(&text, "")).to_owned();
    if !without.is_empty() {
        text = without;
    }
    for _ in 0..2 {
        let without = UNIT.replace_all(&text, "${1}").into_owned();
        if !without.is_empty() {
            text = without;
        }
    }
    text
}

fn operators(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in OPERATORS.iter() {
        text = from.replace_all(&text, *to).into_owned();
    }
    let text = fractions(&roots(&text.replace(" sqrt", "\\sqrt")));
    slashed(&text).unwrap_or(text)
}

fn roots(text: &str) -> String {
    let mut parts = text.split("\\sqrt");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let part = python::strip_start(part);
        match part.chars().next() {
            Some(first) if !matches!(first, '{' | '[') => {
                result.push_str(&format!("\\sqrt{{{first}}}{}", &part[first.len_utf8()..]))
            }
            _ => {
                result.push_str("\\sqrt");
                result.push_str(part);
            }
        }
    }
    result
}

fn fractions(text: &str) -> String {
    let mut parts = text.split("\\frac");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let part = python::strip_start(part);
        result.push_str("\\frac");
        let signs: Vec<char> = part.chars().take(2).collect();
        match signs[..] {
            ['{', ..] => result.push_str(part),
            [a, b] => {
                let rest = &part[a.len_utf8() + b.len_utf8()..];
                result.push_str(&if b == '{' {
                    format!("{{{a}}}{b}{rest}")
                } else {
                    format!("{{{a}}}{{{b}}}{rest}")
                });
            }
            _ => return text.to_owned(),
        }
    }
    result
}

/// Implements `extract_boxed_content`: boxes from the right; with [`Boxes::Last`], only those near the last one.
fn boxed(text: &str, boxes: Boxes) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut end = text.len();
    let mut last_start: Option<usize> = None;
    loop {
        let (box_at, frame_at) = (text[..end].rfind("\\boxed"), text[..end].rfind("\\fbox"));
        let Some(start) = box_at.max(frame_at) else { break };
        let command = start + if box_at > frame_at { 6 } else { 5 };
        let rest = &text[command..end];
        let opening = command + (rest.len() - python::strip_start(rest).len());
        if opening >= end {
            break;
        }
        if !text[opening..].starts_with('{') {
            if found.is_empty() {
                found.push(text[opening..].to_owned());
            }
            break;
        }
        let Some(close) = closing(&text[opening..end]).map(|at| opening + at) else {
            if found.is_empty() {
                found.push(text[opening..].to_owned());
            }
            break;
        };
        let content = python::strip(&text[opening + 1..close]).to_owned();
        if boxes == Boxes::Last
            && let Some(next) = last_start
            && !belongs(
                &text[(close + 1).min(next)..next],
                &content,
                found.last().map_or("", String::as_str),
            )
        {
            break;
        }
        found.push(content);
        last_start = Some(start);
        end = start;
    }
    if found.is_empty() {
        return text.to_owned();
    }
    found.reverse();
    found.join(",")
}

fn belongs(between: &str, content: &str, next: &str) -> bool {
    let length = python::length(between);
    length < 10
        || (next != content
            && length < 70
            && ["and", "or", ",", ";"].iter().any(|word| between.contains(word)))
}

fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns the part after the last equals sign if a text has several and is not a list.
pub fn last_equation(text: &str) -> &str {
    if text.contains([',', ';']) {
        return text;
    }
    let signs: Vec<usize> = text
        .match_indices('=')
        .map(|(at, _)| at)
        .filter(|at| !text[..*at].ends_with(['\\', '<', '!', '>']))
        .collect();
    match signs[..] {
        [_, .., last] => &text[last + 1..],
        _ => text,
    }
}
