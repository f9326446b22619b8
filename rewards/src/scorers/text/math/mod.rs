//! MATH's graders: Hendrycks', Minerva's, math-verify, OpenCompass'.

mod boxed;
mod extract;
mod minerva;
mod normalise;
mod opencompass;
mod plain;
mod sets;
mod strings;
mod units;
mod verify;

use serde_json::{Value, json};

use super::super::ScoreError;
use super::super::case::Case;
use strings::PythonError;
use verify::verified;

/// Scores a bare final answer against the reference.
///
/// # Errors
/// An error if a field is missing.
pub fn answer(case: &Case<'_>) -> Result<Value, ScoreError> {
    let (prediction, reference) = (case.text(&["prediction"])?, case.text(&["reference", "answer"])?);
    let (normal_prediction, normal_reference) =
        (minerva::normalised(prediction), minerva::normalised(reference));
    Ok(json!({
        "hendrycks": {
            "strip_prediction": shown(strings::strip_string(prediction)),
            "strip_reference": shown(strings::strip_string(reference)),
            "is_equiv": strings::is_equivalent(prediction, reference),
        },
        "minerva": {
            "is_equiv": minerva::is_equivalent(&normal_prediction, &normal_reference),
            "normalised_prediction": normal_prediction,
            "normalised_reference": normal_reference,
        },
        "math_verify": {
            "bare": verified(reference, prediction),
            "dollars": verified(&format!("${reference}$"), &format!("${prediction}$")),
            "boxed": verified(&format!("${reference}$"), &format!("\\boxed{{{prediction}}}")),
        },
        "opencompass_v2": opencompass::is_equivalent(prediction, reference),
    }))
}

fn shown(result: Result<String, PythonError>) -> Value {
    result.map_or_else(|error| json!({ "error": error }), Value::from)
}

/// Scores a whole output against a solution.
///
/// # Errors
/// An error if a field is missing.
pub fn completion(case: &Case<'_>) -> Result<Value, ScoreError> {
    let (output, solution) = (
        case.text(&["prediction"])?,
        case.text(&["reference", "solution"])?,
    );
    let gold = match boxed::gold(solution) {
        Ok(gold) => gold,
        Err(error) => return Ok(json!({ "error": error })),
    };
    let gold_minerva = minerva::normalised(&gold);
    let announced = minerva::announced(output);
    let exact = i32::from(minerva::is_equivalent(
        &minerva::normalised(&announced),
        &gold_minerva,
    ));
    let extracted = opencompass::extracted(output);
    let opencompass_gold = boxed::opencompass(solution, false);
    let is_right = opencompass_gold.is_some_and(|gold| opencompass::is_equivalent(&extracted, &gold));
    Ok(json!({
        "hendrycks_math": { "exact_match": i32::from(strings::is_equivalent(strings::between_dollars(output), &gold)) },
        "minerva_extracted": announced,
        "minerva_math_v2": { "exact_match": exact, "math_verify": i32::from(verified(&gold_minerva, output)) },
        "minerva_math_v3": { "exact_match": exact, "math_verify": i32::from(verified(solution, output)) },
        "opencompass_v2": { "correct": is_right, "extracted": extracted },
        "gold": gold,
        "gold_minerva": gold_minerva,
    }))
}
