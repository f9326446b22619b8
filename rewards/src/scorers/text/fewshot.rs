//! Draws of Python's generator: the few-shot rows of a question, and the order of its choices.
//!
//! Source: lm-eval's default sampler (GSM8K), its `gpqa_*_n_shot`, OpenCompass as in LLaDA. The generator is used once
//! per document in order, so the draw of a document depends on all earlier ones.

use serde_json::{Value, json};

use super::super::ScoreError;
use super::super::case::Case;
use super::super::twister::Twister;

/// The largest document number, because each needs the draws of all earlier ones.
const FARTHEST: u64 = 1_000_000;

/// Returns the rows shown to a GSM8K document: five, and four in a separate run.
///
/// # Errors
/// An error if a field is missing or the document number is too large.
pub fn gsm8k(case: &Case<'_>) -> Result<Value, ScoreError> {
    let document = place(case, "doc")?;
    let rows = case.find(&["train_rows"]).and_then(Value::as_u64).unwrap_or(7473) as usize;
    let seed = case.find(&["seed"]).and_then(Value::as_u64).unwrap_or(1234);
    let draw = |count: usize| {
        let mut random = Twister::new(seed);
        (0..=document)
            .map(|_| random.sample(rows, count))
            .last()
            .flatten()
    };
    Ok(json!({ "five": draw(5), "four": draw(4) }))
}

/// Returns the order of a row's [incorrect 1, 2, 3, correct] after `random.Random(42).shuffle`, once per row.
///
/// # Errors
/// An error if the row is missing or its number is too large.
pub fn gpqa(case: &Case<'_>) -> Result<Value, ScoreError> {
    shuffled(case, 42, 3)
}

/// Returns the order of a row's [correct, incorrect 1, 2, 3] after `random.seed(0)` and `random.shuffle` once per row.
///
/// # Errors
/// An error if the row is missing or its number is too large.
pub fn gpqa_opencompass(case: &Case<'_>) -> Result<Value, ScoreError> {
    shuffled(case, 0, 0)
}

fn shuffled(case: &Case<'_>, seed: u64, correct: usize) -> Result<Value, ScoreError> {
    let row = place(case, "row")?;
    let mut random = Twister::new(seed);
    let mut order = [0, 1, 2, 3];
    for _ in 0..=row {
        order = [0, 1, 2, 3];
        random.shuffle(&mut order);
    }
    let answer = order
        .iter()
        .position(|from| *from == correct)
        .map(|at| ["A", "B", "C", "D"][at]);
    Ok(json!({ "order": order, "answer": answer }))
}

fn place(case: &Case<'_>, name: &str) -> Result<u64, ScoreError> {
    let place = case.whole(&[name, "prediction"])?;
    if place > FARTHEST {
        return Err(ScoreError::Wrong {
            field: name.to_owned(),
            expected: format!("at most {FARTHEST}"),
        });
    }
    Ok(place)
}
