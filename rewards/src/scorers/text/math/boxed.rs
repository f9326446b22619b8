//! The answer inside the last `\boxed{…}` of a text, as each harness extracts it.

use super::strings::PythonError;

/// lm-eval's `last_boxed_only_string`: `\boxed x` with a space takes precedence and extends to the next dollar sign.
pub fn last_boxed(text: &str) -> Option<String> {
    if let Some(at) = text.rfind("\\boxed ") {
        let rest = &text[at + 7..];
        return Some(format!("\\boxed {}", rest.split('$').next().unwrap_or(rest)));
    }
    last_braced(text)
}

/// Returns the last `\boxed`, else the last `\fbox`, up to its closing brace.
fn last_braced(text: &str) -> Option<String> {
    let start = text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?;
    let mut open = 0;
    for (i, c) in text[start..].char_indices() {
        match c {
            '{' => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(text[start..=start + i].to_owned());
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns lm-eval's reference answer: the content of the last box.
///
/// # Errors
/// The exception of the official code: TypeError without a box, AssertionError for another form of box.
pub fn gold(solution: &str) -> Result<String, PythonError> {
    let boxed = last_boxed(solution).ok_or("TypeError")?;
    if boxed.contains("\\boxed ") {
        return boxed
            .strip_prefix("\\boxed ")
            .map(str::to_owned)
            .ok_or("AssertionError");
    }
    let inside = boxed
        .strip_prefix("\\boxed{")
        .and_then(|rest| rest.strip_suffix('}'));
    inside.map(str::to_owned).ok_or("AssertionError")
}

/// Returns OpenCompass' answer: the content of the last box if it is in braces.
pub fn opencompass(text: &str, strip_double_braces: bool) -> Option<String> {
    let boxed = last_braced(text)?;
    let inside = boxed.strip_prefix("\\boxed{")?.strip_suffix('}')?;
    let doubled = inside.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    Some(
        doubled
            .filter(|inner| strip_double_braces && !inner.contains('\n'))
            .unwrap_or(inside)
            .to_owned(),
    )
}
