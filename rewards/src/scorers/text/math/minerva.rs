//! Minerva's grader: the announced answer, its clean-up, and equality by computer algebra.
//!
//! Source: lm-eval `minerva_math` 0.4.8 and HEAD: `get_unnormalized_answer`, `normalize_final_answer`, `is_equiv` with
//! sympy.

use std::sync::LazyLock;

use regex::Regex;

use super::super::super::{pattern, python};
use super::strings::replace_all;
use crate::algebra::{Expr, Named, is_zero, parse_latex};

static ANNOUNCED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"Final Answer: The final answer is([^\n]*?)[^\n] I hope it is correct[^\n]"));
static DOLLARS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(.*?)(\$)(.*?)(\$)(.*)"));
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(sqrt)([^{])"));
static FRACTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"(frac)([^{])(.)"));

/// Commands that are replaced by their content, in order; `\boxed` is greedy.
static UNWRAPPED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"\\text\{(.*?)\}",
        r"\\textbf\{(.*?)\}",
        r"\\overline\{(.*?)\}",
        r"\\boxed\{(.*)\}",
    ]
    .iter()
    .map(|text| pattern(text))
    .collect()
});

/// Words and commands that are deleted, in order.
#[rustfmt::skip]
pub const REMOVED: [&str; 40] = [
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue", "points", "feet", "minutes", "digits",
    "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students", "childrentickets", "multiples", "\\text{s}", "\\text{.}",
    "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}",
];

/// Replacements before the deletions, in order.
pub const REPLACED: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

/// Returns the answer between "Final Answer: The final answer is" and "I hope it is correct.".
pub fn announced(output: &str) -> String {
    let output = format!("{output}I hope it is correct.");
    let found = ANNOUNCED.captures(&output).and_then(|found| found.get(1));
    found
        .map_or("[invalidanswer]", |found| python::strip(found.as_str()))
        .to_owned()
}

/// Minerva's `normalize_final_answer`.
pub fn normalised(answer: &str) -> String {
    let text = replace_all(answer.rsplit('=').next().unwrap_or(answer), &REPLACED);
    let mut text = REMOVED.iter().chain(&["\"", "\\dots"]).fold(text, |text, word| {
        if text.contains(word) {
            text.replace(word, "")
        } else {
            text
        }
    });
    text = DOLLARS.replace_all(&text, "$$${3}$$").into_owned();
    for command in UNWRAPPED.iter() {
        text = command.replace_all(&text, "${1}").into_owned();
    }
    shorthand(&text)
}

/// Adds braces to `\frac12` and `\sqrt2`, and removes dollar signs and the commas of a number.
pub fn shorthand(text: &str) -> String {
    let text = FRACTION.replace_all(text, "frac{${2}}{${3}}");
    let text = ROOT.replace_all(&text, "sqrt{${2}}").replace('$', "");
    let plain = text.replace(',', "");
    if python::is_digits(&plain) { plain } else { text }
}

/// Minerva's `is_equiv` of cleaned answers: both are parsed, and their difference must simplify to zero.
pub fn is_equivalent(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (parse_latex(a), parse_latex(b)) else {
        return false;
    };
    let is_number = |expr: &Expr| !matches!(expr, Expr::Relation(..));
    if !is_number(&a) || !is_number(&b) {
        return false;
    }
    // Equal forms cancel whatever their value, except that infinity minus infinity and a bare power of zero have none.
    let is_undefined = has_infinity(&a) || matches!(&a, Expr::Pow(base, _) if **base == Expr::int(0));
    let is_same_form = a == b && !is_undefined;
    if is_same_form {
        return true;
    }
    let (kept, others) = (unevaluated(&a), unevaluated(&b));
    let is_kept_same =
        kept.iter().all(|power| others.contains(power)) && others.iter().all(|power| kept.contains(power));
    is_kept_same && is_zero(&a.minus(b)) == Some(true)
}

/// Returns the powers with a decimal exponent that sympy leaves as they are: beside them no other form is equal.
fn unevaluated(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Pow(base, exponent) if matches!(**exponent, Expr::Float(_)) && !base.symbols().is_empty() => {
            vec![expr]
        }
        other => other.parts().into_iter().flat_map(unevaluated).collect(),
    }
}

fn has_infinity(expr: &Expr) -> bool {
    *expr == Expr::Named(Named::Infinity) || expr.parts().into_iter().any(has_infinity)
}
