//! Exact answers, with the equivalences that a person would grant: 0.5 is 1/2, 1,000 is 1000, "7 apples" is 7.

/// Whether an answer is the expected one: the same number, or else the same words.
#[must_use]
pub fn same(found: &str, expected: &str) -> bool {
    let (found, expected) = (unbox(found), unbox(expected));
    match (number(found), number(expected)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
        (None, Some(b)) => final_number(found).is_some_and(|a| (a - b).abs() <= 1e-9 * b.abs().max(1.0)),
        _ => normal(found) == normal(expected) && !normal(expected).is_empty(),
    }
}

/// Lower case, single spaces, no full stop at the end.
#[must_use]
pub fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches(['.', '!']).to_lowercase()
}

/// What is inside the last `\boxed{}`, or the text.
fn unbox(text: &str) -> &str {
    let inside = text.rfind("\\boxed{").map(|at| &text[at + "\\boxed{".len()..]);
    inside
        .and_then(|rest| rest.split_once('}'))
        .map_or(text, |(inside, _)| inside)
        .trim()
}

/// The whole text as a number: decimal, with thousands separators, a fraction, a percent or currency sign.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    let text = text
        .trim()
        .trim_end_matches('.')
        .trim_start_matches(['$', '€', '£'])
        .trim_end_matches('%')
        .trim();
    if let Some((top, bottom)) = text.split_once('/') {
        let (top, bottom) = (plain(top)?, plain(bottom)?);
        return (bottom != 0.0).then_some(top / bottom);
    }
    plain(text)
}

fn plain(text: &str) -> Option<f64> {
    let text: String = text.trim().chars().filter(|&sign| sign != ',').collect();
    let looks = |sign: char| sign.is_ascii_digit() || matches!(sign, '.' | '-' | '+');
    if text.is_empty() || !text.chars().all(looks) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The last number in a text, as GSM8K's graders read an answer in words.
#[must_use]
pub fn final_number(text: &str) -> Option<f64> {
    text.split(|sign: char| sign.is_whitespace() || matches!(sign, '=' | '(' | ')' | ':'))
        .rev()
        .find_map(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_and_fractions_are_equal_when_they_are_the_same_number() {
        for (a, b) in [
            ("1/2", "0.5"),
            ("1,000", "1000"),
            ("$18.00", "18"),
            ("7 apples", "7"),
            ("\\boxed{42}", "42"),
            ("50%", "50"),
        ] {
            assert!(same(a, b), "{a} and {b}");
        }
        for (a, b) in [("8", "7"), ("", "7"), ("seven", "8"), ("red", "blue"), ("", "")] {
            assert!(!same(a, b), "{a} and {b}");
        }
        assert!(same("Red.", "red"));
    }
}
