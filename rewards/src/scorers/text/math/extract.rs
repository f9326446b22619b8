//! Answer extraction of math-verify: announced, boxed, LaTeX and plain answers; the rightmost match of the best kind
//! wins.
//!
//! Source: math-verify 0.8.0 `parse` with its default configuration (LaTeX, then plain expressions).

use std::sync::LazyLock;

use fancy_regex::{Captures, Regex, RegexBuilder};

use super::super::super::python;
use super::normalise::{Boxes, last_equation, normalised};
use super::plain::parse_plain;
use crate::algebra::{Expr, extended};

/// An extracted answer: an expression, or the text itself.
#[derive(Debug, Clone, PartialEq)]
pub enum ExtractedAnswer {
    /// An expression.
    Expr(Expr),
    /// The cleaned text of the first match.
    Text(String),
}

/// A pattern with its priority; lower is better.
struct Pattern {
    regex: Regex,
    priority: u32,
    is_latex: bool,
    /// A word without which the pattern cannot match.
    word: &'static str,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let mut patterns = latex_patterns();
    patterns.extend(plain_patterns());
    patterns.sort_by_key(|pattern| pattern.priority);
    patterns
});

const ENVIRONMENTS: [&str; 6] = [
    "latexDisplayDollar",
    "latexDisplayBracket",
    "latexInlineDollar",
    "latexInlineParenthesis",
    "latexInlineBracket",
    "latexFraction",
];

fn compiled(text: &str, across_lines: bool) -> Option<Regex> {
    let text = if across_lines {
        format!("(?s){text}")
    } else {
        text.to_owned()
    };
    let built = RegexBuilder::new(&text).backtrack_limit(50_000_000).build();
    debug_assert!(built.is_ok(), "{text}");
    built.ok()
}

/// Writes the pattern of LaTeX environments; its groups have distinct names for each position in a list.
fn environment(prefix: &str, is_boxed: bool) -> String {
    let contents = [
        r"(?:[^$]|\$(?!\$))",
        r"(?:[^\\]|\\(?!\]))",
        r"(?:\\[$]|[^\n$])",
        r"(?:[^\\\n]|\\(?!\)))",
        r"[^\n\]\[]",
    ];
    let content: Vec<String> = contents
        .iter()
        .map(|sign| {
            if is_boxed {
                format!(r"{sign}*?\\boxed\{{{sign}+?\}}{sign}*?")
            } else {
                format!("{sign}+?")
            }
        })
        .collect();
    let mut forms = vec![
        format!(
            r"(?<!\\)\$\$(?P<{prefix}latexDisplayDollar>{})(?<!\\)\$\$",
            content[0]
        ),
        format!(
            r"(?<!\\)\\\[(?P<{prefix}latexDisplayBracket>{})(?<!\\)\\\]",
            content[1]
        ),
        format!(
            r"(?<!\\|\d)\$(?P<{prefix}latexInlineDollar>{})(?<!\\)\$",
            content[2]
        ),
        format!(
            r"(?<!\\)\\\((?P<{prefix}latexInlineParenthesis>{})(?<!\\)\\\)",
            content[3]
        ),
        format!(r"\s\[(?P<{prefix}latexInlineBracket>{})\]\s", content[4]),
    ];
    if !is_boxed {
        let number = r"-?\d+(?:[.,]\d+)?";
        forms.push(format!(
            r"(?P<{prefix}latexFraction>-?\\frac\{{{number}\}}\{{{number}\}})"
        ));
    }
    format!(
        r"(?:(?:{})\s*(?P<{prefix}percent>(?:\\?%|[Pp]ercent|[Pp]ercentage|[Pp]ct))?)",
        forms.join("|")
    )
}

/// Builds the patterns of LaTeX answers, with math-verify's priorities. Up to six expressions that are joined by `and`,
/// `or` or a comma are one answer.
fn latex_patterns() -> Vec<Pattern> {
    let list = |is_boxed: bool| {
        let more: String = (1..6)
            .map(|i| {
                let next = environment(&format!("next{i}_"), is_boxed);
                let before = if is_boxed { r"\s*" } else { "" };
                format!(r"{before}(?:\s*(?:,?and|,?or|,)\s*{next})?")
            })
            .collect();
        format!("(?:{}{more})", environment("first_", is_boxed))
    };
    let latex = list(false);
    let written = [
        (
            format!(r"(?i:final answer is):?\s*{latex}\.?\s?I hope"),
            0,
            "nal answer is",
        ),
        (
            format!(r"(?i:final answer.{{0,100}}?)\s+is:?\s*{latex}"),
            50,
            "nal answer",
        ),
        (format!(r"(?i:answer):.{{0,50}}?{latex}"), 100, "answer:"),
        (format!(r"(?i:answer).{{0,50}}?{latex}"), 200, "answer"),
        (latex, 300, ""),
        (list(true), 50, "\\boxed"),
        (r"(?P<first_latexBoxed>\\boxed\{.+\})".to_owned(), 50, "\\boxed"),
    ];
    written
        .into_iter()
        .filter_map(|(text, priority, word)| {
            Some(Pattern {
                regex: compiled(&text, true)?,
                priority,
                is_latex: true,
                word,
            })
        })
        .collect()
}

/// Builds the patterns of numbers and arithmetic expressions without LaTeX, with math-verify's priorities.
fn plain_patterns() -> Vec<Pattern> {
    let number = r"(?<!\d)(?:(?P<integer1>-?[1-9]\d{0,2}(?:[ ,]\d{3})+)(?P<decimal1>\.\d+)?|(?P<integer2>-?\d+)(?P<decimal2>[.,]\d+)|(?P<decimal3>\.\d+)|(?P<integer3>-?\d+))(?P<percent>\s*(?:%|[Pp]ercent|\s*[Pp]ercentage|\s*[Pp]ct))?";
    let operators = r"+\-*×/\^()÷";
    let signs = format!(r"[\d.\s{operators}]");
    let expr = format!(r"(?P<expr>-?\(?-?\d{signs}*[{operators}]{signs}+\)?)");
    let before = r"(?:^|\s|=)(?:\*\*)?";
    let after = r"(?:\*\*)?(?:\.|,|:|\s|\)|\$|(?=\n?\z))";
    let with_anchors = format!("(?:{before}{expr}{after})");
    let number_with_anchors = format!("(?:{before}[$€£¥₹₽₪₩₫฿₡₢₣₤₥₦₧₨₭₮₯₰₱₲₳₴₵₶₷₸₺₻₼₾₿]?{number})");
    let either = format!("(?:{with_anchors}|{number_with_anchors})");
    let written = [
        (
            format!(r"(?i:final answer is):?\s*{either}\.?\s?I hope"),
            0,
            "nal answer is",
        ),
        (
            format!(r"(?i:final answer.{{0,100}}?)\s+is:?{either}"),
            50,
            "nal answer",
        ),
        (
            format!(r"(?i:answer):(?:.{{0,100}}=\s*|.{{0,50}}?){either}(?!\s*=)"),
            100,
            "answer:",
        ),
        (
            format!(r"(?i:answer)(?:.{{0,100}}=\s*|.{{0,50}}?){either}(?!\s*=)"),
            200,
            "answer",
        ),
        (with_anchors, 300, ""),
        (number_with_anchors, 300, ""),
    ];
    written
        .into_iter()
        .filter_map(|(text, priority, word)| {
            Some(Pattern {
                regex: compiled(&text, false)?,
                priority,
                is_latex: false,
                word,
            })
        })
        .collect()
}

/// A match: its end, its start, its captures, and whether it is LaTeX.
type Found<'t> = (usize, usize, Captures<'t>, bool);

/// Extracts the answers of a text: the parsed expression, and the cleaned text of the first match.
pub fn answers(text: &str) -> Vec<ExtractedAnswer> {
    let lower = text.to_lowercase();
    let mut answers = Vec::new();
    let mut fallback: Option<String> = None;
    for group in PATTERNS.chunk_by(|a, b| a.priority == b.priority) {
        let mut matches: Vec<Found<'_>> = Vec::new();
        for pattern in group.iter().filter(|pattern| lower.contains(pattern.word)) {
            let found = pattern.regex.captures_iter(text).map_while(Result::ok);
            matches.extend(found.filter_map(|found| {
                found
                    .get(0)
                    .map(|whole| (whole.end(), whole.start(), found, pattern.is_latex))
            }));
        }
        matches.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, _, found, is_latex) in &matches {
            let (expr, written) = if *is_latex { latex(found) } else { plain(found) };
            if fallback.is_none() && !written.is_empty() {
                fallback = Some(written);
            }
            if let Some(expr) = expr {
                answers.push(ExtractedAnswer::Expr(expr));
                break;
            }
        }
        if !answers.is_empty() {
            break;
        }
    }
    answers.extend(fallback.map(ExtractedAnswer::Text));
    answers
}

/// Parses a match of a LaTeX pattern. Returns the expression, or a set of all expressions if the match has several and
/// all can be parsed, and the cleaned text.
fn latex(found: &Captures<'_>) -> (Option<Expr>, String) {
    let group = |name: &str| {
        found
            .name(name)
            .map(|group| group.as_str())
            .filter(|text| !text.is_empty())
    };
    let mut exprs = Vec::new();
    let mut texts = Vec::new();
    for prefix in ["first", "next1", "next2", "next3", "next4", "next5"] {
        let environment = ENVIRONMENTS
            .iter()
            .find_map(|name| group(&format!("{prefix}_{name}")));
        let (content, boxes) = match (
            environment,
            group("first_latexBoxed").filter(|_| prefix == "first"),
        ) {
            (Some(content), _) => (content, Boxes::All),
            (None, Some(content)) => (content, Boxes::Last),
            (None, None) => continue,
        };
        let cleaned = normalised(content, boxes);
        let is_percent = group(&format!("{prefix}_percent")).is_some();
        let expr = parse_latex(&cleaned);
        exprs.push(if is_percent {
            expr.and_then(as_percent)
        } else {
            expr
        });
        texts.push(cleaned);
    }
    if exprs.is_empty() {
        return (None, String::new());
    }
    if exprs.len() > 1 && exprs.iter().all(Option::is_some) {
        let elements = exprs.into_iter().flatten().flat_map(|expr| match expr {
            Expr::Set(elements) => elements,
            one => vec![one],
        });
        return (Some(Expr::Set(elements.collect())), texts.join(" and "));
    }
    (exprs.swap_remove(0), texts.swap_remove(0))
}

fn as_percent(expr: Expr) -> Option<Expr> {
    let is_number = !expr.is_set()
        && !matches!(
            expr,
            Expr::Relation(..) | Expr::And(_) | Expr::Tuple(_) | Expr::Matrix(_)
        );
    is_number.then(|| Expr::Mul(vec![expr, Expr::int(1).over(Expr::int(100))]))
}

fn parse_latex(text: &str) -> Option<Expr> {
    extended::parse(text, !looks_complex(text)).or_else(|| {
        let last = last_equation(text);
        if last == text {
            None
        } else {
            extended::parse(last, !looks_complex(last))
        }
    })
}

/// Whether a text mentions complex numbers or matrix functions.
fn looks_complex(text: &str) -> bool {
    const WORDS: [&str; 15] = [
        "\\mathbb{C}",
        "\\text{i}",
        "\\mathrm{i}",
        "\\det",
        "\\operatorname{tr}",
        "\\operatorname{rank}",
        "\\text{rank}",
        "\\arg{",
        "\\Re{",
        "\\Im{",
        "\\operatorname{Re}",
        "\\operatorname{Im}",
        "\\text{Re}",
        "\\text{Im}",
        "\\imath",
    ];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let alone = text
        .match_indices('i')
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + 1..].starts_with(is_word));
    alone || WORDS.iter().any(|word| text.contains(word))
}

fn plain(found: &Captures<'_>) -> (Option<Expr>, String) {
    let group = |name: &str| {
        found
            .name(name)
            .map(|group| group.as_str())
            .filter(|text| !text.is_empty())
    };
    let first = |names: [&str; 3]| names.iter().find_map(|name| group(name)).unwrap_or_default();
    let integer = first(["integer1", "integer2", "integer3"]);
    let decimal = first(["decimal1", "decimal2", "decimal3"]);
    if !integer.is_empty() || !decimal.is_empty() {
        let digits = integer.replace([',', ' '], "");
        let digits = digits.trim_start_matches('0');
        let text = format!(
            "{}{}",
            if digits.is_empty() { "0" } else { digits },
            decimal.replace(',', ".")
        );
        let number = Expr::number(&text);
        let number = if group("percent").is_some() {
            number.and_then(as_percent)
        } else {
            number
        };
        return (number, text);
    }
    let text = group("expr").unwrap_or_default();
    let expr = parse_plain(&text.replace('\n', " ").replace('^', "**"));
    (expr, python::strip(text).to_owned())
}
