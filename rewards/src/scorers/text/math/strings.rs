//! The string clean-up of Hendrycks' grader, which other graders share with small differences.

use super::super::super::python;

/// The name of a Python exception.
pub type PythonError = &'static str;

/// Hendrycks' `strip_string`, as in lm-eval's `hendrycks_math`.
///
/// # Errors
/// The exception that the official code raises on some texts: IndexError, ValueError, AssertionError.
pub fn strip_string(text: &str) -> Result<String, PythonError> {
    let text = replace_all(
        text,
        &[
            ("\n", ""),
            ("\\!", ""),
            ("\\\\", "\\"),
            ("tfrac", "frac"),
            ("dfrac", "frac"),
            ("\\left", ""),
            ("\\right", ""),
            ("^{\\circ}", ""),
            ("^\\circ", ""),
            ("\\$", ""),
        ],
    );
    let text = without_units(&text)?;
    let mut text = replace_all(&text, &[("\\%", ""), (" .", " 0."), ("{.", "{0.")]);
    if text.is_empty() {
        return Ok(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    let text = without_name(&text);
    let text = braced_roots(&text)?.replace(' ', "");
    let mut text = braced_fractions(&text, false)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    slashed(&text)
}

/// Applies replacements one after another.
pub fn replace_all(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        if text.contains(from) {
            text.replace(from, to)
        } else {
            text
        }
    })
}

fn without_units(text: &str) -> Result<String, PythonError> {
    let parts: Vec<&str> = text.split("\\text{ ").collect();
    match parts[..] {
        [whole] => Ok(whole.to_owned()),
        [before, _] => Ok(before.to_owned()),
        _ => Err("AssertionError"),
    }
}

/// Returns what follows the only equals sign, if at most two characters precede it.
pub fn without_name(text: &str) -> String {
    let parts: Vec<&str> = text.split('=').collect();
    match parts[..] {
        [name, value] if python::length(name) <= 2 => value.to_owned(),
        _ => text.to_owned(),
    }
}

fn braced_roots(text: &str) -> Result<String, PythonError> {
    let mut parts = text.split("\\sqrt");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let first = part.chars().next().ok_or("IndexError")?;
        if first == '{' {
            result.push_str("\\sqrt");
            result.push_str(part);
        } else {
            result.push_str(&format!("\\sqrt{{{first}}}{}", &part[first.len_utf8()..]));
        }
    }
    Ok(result)
}

/// Adds braces to `\frac12`. An empty rest raises in Hendrycks' code, but not in OpenCompass'.
///
/// # Errors
/// IndexError where the official code raises it.
pub fn braced_fractions(text: &str, is_lenient: bool) -> Result<String, PythonError> {
    let mut parts = text.split("\\frac");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str("\\frac");
        let signs: Vec<char> = part.chars().take(2).collect();
        match signs[..] {
            ['{', ..] => result.push_str(part),
            [] if !is_lenient => return Err("IndexError"),
            [] | [_] => return Ok(text.to_owned()),
            [a, b, ..] => {
                let rest = &part[a.len_utf8() + b.len_utf8()..];
                let written = if b == '{' {
                    format!("{{{a}}}{b}{rest}")
                } else {
                    format!("{{{a}}}{{{b}}}{rest}")
                };
                result.push_str(&written);
            }
        }
    }
    Ok(result)
}

/// Writes `a/b` of integers as a fraction.
///
/// # Errors
/// ValueError if a side is not an integer.
pub fn slashed(text: &str) -> Result<String, PythonError> {
    let parts: Vec<&str> = text.split('/').collect();
    let [a, b] = parts[..] else {
        return Ok(text.to_owned());
    };
    let (a, b) = (
        python::int(a).ok_or("ValueError")?,
        python::int(b).ok_or("ValueError")?,
    );
    if text == format!("{a}/{b}") {
        Ok(format!("\\frac{{{a}}}{{{b}}}"))
    } else {
        Ok(text.to_owned())
    }
}

/// Hendrycks' `is_equiv`: equal after the clean-up, or equal as they are if it raises.
pub fn is_equivalent(a: &str, b: &str) -> bool {
    match (strip_string(a), strip_string(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Returns the text between the first and the last dollar sign of an output, or all of it.
pub fn between_dollars(output: &str) -> &str {
    match (output.find('$'), output.rfind('$')) {
        (Some(first), Some(last)) if first < last => &output[first + 1..last],
        _ => output,
    }
}
