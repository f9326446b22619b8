//! Verification of reasoning traces: well formed, every written sum true, the final answer right.

use super::answer::same;
use super::thought::split;

/// Why a trace was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceFlaw {
    /// Not `<think>` reasoning `</think>` result.
    #[error("the trace is not in the reasoning format")]
    Format,
    /// A written step is false.
    #[error("the step '{0}' of the trace is not true")]
    Step(String),
    /// The result differs from the expected answer.
    #[error("the result '{found}' is not '{expected}'")]
    Answer {
        /// The written result.
        found: String,
        /// The expected answer.
        expected: String,
    },
}

/// Checks a trace against the right answer; returns the number of sums that were checked.
pub fn verify(text: &str, expected: &str) -> Result<usize, TraceFlaw> {
    let parts = split(text);
    let reasoning = parts
        .reasoning
        .filter(|reasoning| !reasoning.is_empty())
        .ok_or(TraceFlaw::Format)?;
    let mut checked = 0;
    for step in steps(reasoning).filter(|step| step.contains('=')) {
        match holds(step) {
            Some(true) => checked += 1,
            Some(false) => return Err(TraceFlaw::Step(step.trim().to_owned())),
            None => {}
        }
    }
    if !same(parts.result, expected) {
        return Err(TraceFlaw::Answer {
            found: parts.result.to_owned(),
            expected: expected.to_owned(),
        });
    }
    Ok(checked)
}

/// Splits reasoning at stops, commas, semicolons and line ends; a stop or comma between two digits is part of a number.
fn steps(reasoning: &str) -> impl Iterator<Item = &str> {
    let signs = reasoning.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| signs.get(at)).is_some_and(u8::is_ascii_digit);
    let ends = |at: usize| match signs[at] {
        b';' | b'\n' => true,
        b'.' | b',' => !(digit(at.checked_sub(1)) && digit(at.checked_add(1))),
        _ => false,
    };
    let mut cuts: Vec<usize> = (0..signs.len()).filter(|&at| ends(at)).collect();
    cuts.push(signs.len());
    let mut from = 0;
    cuts.into_iter().map(move |to| {
        let step = &reasoning[from..to];
        from = (to + 1).min(reasoning.len());
        step
    })
}

/// Whether the sums `a op b … = c` of a step are true, each side compared with the next. `None` if there is no such
/// sum, or none that certainly stands by itself ("half of 6 + 4 = 7"). A result with decimals may be rounded to them.
fn holds(step: &str) -> Option<bool> {
    let sides: Vec<&str> = step.split('=').collect();
    let pairs = sides.windows(2).enumerate();
    let known: Vec<bool> = pairs
        .filter_map(|(at, pair)| equal(pair[0], pair[1], at > 0))
        .collect();
    (!known.is_empty()).then(|| known.into_iter().all(|holds| holds))
}

/// Whether the expression at the end of one side equals that at the beginning of the next. A single number on the left
/// is a result only if it stands between two equals signs.
fn equal(left: &str, right: &str, between: bool) -> Option<bool> {
    if left
        .split_whitespace()
        .any(|word| word.eq_ignore_ascii_case("of"))
    {
        return None;
    }
    let (left, right) = (tokens(left), tokens(right));
    let words = left.iter().rposition(|token| *token == TraceToken::Other);
    let end = right.iter().position(|token| *token == TraceToken::Other);
    let right = &right[..end.unwrap_or(right.len())];
    let left = &left[words.map_or(0, |at| at + 1)..];
    if left.len() < 2 && !between {
        return None;
    }
    let (value, result) = (value(left)?, value(right)?);
    let rounding = match right {
        [TraceToken::Number { decimals, .. }] if *decimals > 0 => 0.5 * 0.1_f64.powi(*decimals),
        _ => 0.0,
    };
    Some((value - result).abs() <= rounding + 1e-9 * result.abs().max(1.0))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TraceToken {
    Number { value: f64, decimals: i32 },
    Operator(char),
    Other,
}

/// Splits an expression into numbers and operators; everything else, including parentheses, is `Other`.
fn tokens(text: &str) -> Vec<TraceToken> {
    let mut found: Vec<TraceToken> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(sign) = rest.chars().next() {
        let after_number = matches!(found.last(), Some(TraceToken::Number { .. }));
        let (token, length) = match sign {
            '$' | '€' | '£' => (None, sign.len_utf8()),
            '0'..='9' | '.' => {
                let (token, length) = numeral(rest);
                (Some(token), length)
            }
            '-' | '−'
                if !after_number
                    && rest[sign.len_utf8()..].starts_with(|next: char| next.is_ascii_digit()) =>
            {
                let (token, length) = numeral(&rest[sign.len_utf8()..]);
                (Some(negative(token)), sign.len_utf8() + length)
            }
            '+' | '*' | '/' | '-' => (Some(TraceToken::Operator(sign)), 1),
            '−' => (Some(TraceToken::Operator('-')), sign.len_utf8()),
            '×' | '·' => (Some(TraceToken::Operator('*')), sign.len_utf8()),
            '÷' => (Some(TraceToken::Operator('/')), sign.len_utf8()),
            'x' if after_number => (Some(TraceToken::Operator('*')), 1),
            _ => {
                let word = rest
                    .char_indices()
                    .find(|&(at, next)| at > 0 && !next.is_alphanumeric())
                    .map_or(rest.len(), |(at, _)| at);
                (Some(TraceToken::Other), word)
            }
        };
        found.extend(token);
        rest = rest[length..].trim_start();
    }
    found
}

/// Parses the number with which a text begins (thousands separators, decimals, a percent sign); returns it with its
/// length in bytes.
fn numeral(text: &str) -> (TraceToken, usize) {
    let signs = text.as_bytes();
    let digit = |at: usize| signs.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while digit(end) || matches!(signs.get(end), Some(b'.' | b',')) && digit(end + 1) {
        end += 1;
    }
    let written: String = text[..end].chars().filter(|&sign| sign != ',').collect();
    let Ok(value) = written.parse::<f64>() else {
        return (TraceToken::Other, end.max(1));
    };
    let decimals = written.split_once('.').map_or(0, |(_, after)| after.len());
    let decimals = i32::try_from(decimals).unwrap_or(i32::MAX);
    if signs.get(end) == Some(&b'%') {
        let (value, decimals) = (value / 100.0, decimals.saturating_add(2));
        return (TraceToken::Number { value, decimals }, end + 1);
    }
    (TraceToken::Number { value, decimals }, end)
}

fn negative(token: TraceToken) -> TraceToken {
    match token {
        TraceToken::Number { value, decimals } => TraceToken::Number {
            value: -value,
            decimals,
        },
        other => other,
    }
}

/// Evaluates `a op b op c …`, products before sums, or a single number; `None` for any other form.
fn value(tokens: &[TraceToken]) -> Option<f64> {
    let Some((TraceToken::Number { value: first, .. }, rest)) = tokens.split_first() else {
        return None;
    };
    let (mut sum, mut product) = (0.0, *first);
    let mut pairs = rest.chunks_exact(2);
    for pair in &mut pairs {
        let [
            TraceToken::Operator(operator),
            TraceToken::Number { value: operand, .. },
        ] = pair
        else {
            return None;
        };
        match operator {
            '*' => product *= operand,
            '/' if *operand != 0.0 => product /= operand,
            '+' => (sum, product) = (sum + product, *operand),
            '-' => (sum, product) = (sum + product, -operand),
            _ => return None,
        }
    }
    pairs.remainder().is_empty().then_some(sum + product)
}
