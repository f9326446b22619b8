//! Is a reasoning trace acceptable: well formed, every written sum true, the final answer right.

use crate::answer::{number, same};
use crate::thought::split;

/// Why a trace was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not `<think>` reasoning `</think>` result.
    #[error("not in the reasoning format")]
    Format,
    /// A written step is not true.
    #[error("the step '{0}' is not true")]
    Step(String),
    /// The result is not the expected answer.
    #[error("the result '{found}' is not '{expected}'")]
    Answer {
        /// What was written.
        found: String,
        /// What is right.
        expected: String,
    },
}

/// Checks a trace against the right answer; `Ok` holds the number of sums that were checked.
///
/// # Errors
/// The first [`Flaw`].
pub fn verify(text: &str, expected: &str) -> Result<usize, Flaw> {
    let parts = split(text);
    let reasoning = parts
        .reasoning
        .filter(|reasoning| !reasoning.is_empty())
        .ok_or(Flaw::Format)?;
    let mut checked = 0;
    for step in reasoning
        .split(['.', ',', ';', '\n'])
        .filter(|step| step.contains('='))
    {
        match holds(step) {
            Some(true) => checked += 1,
            Some(false) => return Err(Flaw::Step(step.trim().to_owned())),
            None => {}
        }
    }
    if !same(parts.result, expected) {
        return Err(Flaw::Answer {
            found: parts.result.to_owned(),
            expected: expected.to_owned(),
        });
    }
    Ok(checked)
}

/// Whether `a op b … = c` is true; none when it is no such sum.
fn holds(step: &str) -> Option<bool> {
    let (left, right) = step.split_once('=')?;
    let words: Vec<&str> = left.split_whitespace().collect();
    let right = number(right.split_whitespace().next()?)?;
    let tail = words
        .iter()
        .rposition(|word| number(word).is_none() && !is_operator(word))
        .map_or(0, |at| at + 1);
    let (first, rest) = words[tail..].split_first()?;
    let mut value = number(first)?;
    let mut pairs = rest.chunks_exact(2);
    for pair in &mut pairs {
        let operand = number(pair[1])?;
        value = match pair[0] {
            "+" => value + operand,
            "-" => value - operand,
            "*" | "x" | "×" => value * operand,
            "/" | "÷" if operand != 0.0 => value / operand,
            _ => return None,
        };
    }
    pairs.remainder().is_empty().then(|| (value - right).abs() < 1e-9)
}

fn is_operator(word: &str) -> bool {
    matches!(word, "+" | "-" | "*" | "x" | "×" | "/" | "÷")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_trace_passes_and_each_flaw_is_named() {
        assert_eq!(verify("<think>3 + 4 = 7. 7 - 2 = 5.</think>5", "5"), Ok(2));
        assert_eq!(verify("5", "5"), Err(Flaw::Format));
        assert_eq!(
            verify("<think>3 + 4 = 8. 8 - 3 = 5.</think>5", "5"),
            Err(Flaw::Step("3 + 4 = 8".into()))
        );
        let found = verify("<think>3 + 4 = 7.</think>8", "7");
        assert_eq!(
            found,
            Err(Flaw::Answer {
                found: "8".into(),
                expected: "7".into()
            })
        );
    }
}
