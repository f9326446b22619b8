//! Exact answers with the usual equivalences.
//!
//! Equal are 0.5, 1/2 and `\frac{1}{2}`; 1 1/2 and 1.5; 1,000 and 1000; "7 apples" and 7.

/// Whether an answer is the expected one: the same number, else the same words.
#[must_use]
pub fn same(found: &str, expected: &str) -> bool {
    let (found, expected) = (unbox(found), unbox(expected));
    match (number(found), number(expected)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
        (None, Some(b)) => final_number(found).is_some_and(|a| (a - b).abs() <= 1e-9 * b.abs().max(1.0)),
        _ => normal(found) == normal(expected) && !normal(expected).is_empty(),
    }
}

/// Normalises a text: lower case, single spaces, no final full stop.
#[must_use]
pub fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches(['.', '!']).to_lowercase()
}

/// Returns the content of the last `\boxed{}` with balanced braces, else the text.
fn unbox(text: &str) -> &str {
    let inside = text.rfind("\\boxed{").map(|at| &text[at + "\\boxed".len()..]);
    inside.and_then(braced).map_or(text, |(inside, _)| inside).trim()
}

/// Returns the content of the braces with which a text begins, and what follows them.
fn braced(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('{')?;
    let mut depth = 1;
    let end = inside.find(|sign: char| {
        depth += i32::from(sign == '{') - i32::from(sign == '}');
        depth == 0
    })?;
    Some((&inside[..end], &inside[end + 1..]))
}

/// Parses the whole text as a number: decimal, with thousands separators, a fraction (`1/2`, `\frac{1}{2}`), an integer
/// and a fraction (`1 1/2`), or with a percent or currency sign.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    let text = text
        .trim()
        .trim_end_matches('.')
        .trim_matches('$')
        .trim_start_matches(['€', '£'])
        .trim_end_matches('%')
        .trim_end_matches('\\')
        .trim();
    let (sign, size) = match text.strip_prefix(['-', '−']) {
        Some(rest) => (-1.0, rest.trim_start().trim_start_matches(['$', '€', '£'])),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = plain(size)
        .or_else(|| ratio(size))
        .or_else(|| tex_ratio(size))
        .or_else(|| {
            let (whole, part) = size.split_once(' ')?;
            let part = ratio(part.trim()).filter(|part| (0.0..1.0).contains(part))?;
            Some(plain(whole)? + part)
        })?;
    Some(sign * value)
}

fn ratio(text: &str) -> Option<f64> {
    let (top, bottom) = text.split_once('/')?;
    quotient(plain(top)?, plain(bottom)?)
}

fn tex_ratio(text: &str) -> Option<f64> {
    let rest = ["\\frac", "\\dfrac", "\\tfrac"]
        .iter()
        .find_map(|name| text.strip_prefix(name))?;
    let (top, rest) = braced(rest)?;
    let (bottom, rest) = braced(rest)?;
    quotient(plain(top)?, plain(bottom)?).filter(|_| rest.trim().is_empty())
}

fn quotient(top: f64, bottom: f64) -> Option<f64> {
    (bottom != 0.0).then_some(top / bottom)
}

/// Parses digits with a decimal point and thousands separators.
fn plain(text: &str) -> Option<f64> {
    let text: String = text.trim().chars().filter(|&sign| sign != ',').collect();
    let looks = |sign: char| sign.is_ascii_digit() || sign == '.';
    if text.is_empty() || !text.chars().all(looks) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Returns the last number in a text, as GSM8K's graders read an answer in words.
#[must_use]
pub fn final_number(text: &str) -> Option<f64> {
    text.split(|sign: char| sign.is_whitespace() || matches!(sign, '=' | '(' | ')' | ':'))
        .rev()
        .find_map(number)
}
