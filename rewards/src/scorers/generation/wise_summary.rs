//! WISE's reports: what `Calculate.py` and `calculate_verified.py` print about a file of scores, and how they read its
//! lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use num_bigint::BigInt;
use serde_json::{Value, json};

use super::super::ScoreError;
use super::super::case::{Case, float};
use super::python_json::{PythonFault, PythonValue, loads};
use super::wise::{ASPECTS, wiscore};

/// A protocol: the categories with their first and last prompt, the report's name of the score, the weight of each
/// category.
struct WiseProtocol {
    categories: [(&'static str, u64, u64); 6],
    score: &'static str,
    weights: [f64; 6],
}

const LEGACY: WiseProtocol = WiseProtocol {
    categories: [
        ("CULTURE", 1, 400),
        ("TIME", 401, 567),
        ("SPACE", 568, 700),
        ("BIOLOGY", 701, 800),
        ("PHYSICS", 801, 900),
        ("CHEMISTRY", 901, 1000),
    ],
    score: "WiScore",
    weights: [0.4, 0.167, 0.133, 0.1, 0.1, 0.1],
};

const VERIFIED: WiseProtocol = WiseProtocol {
    categories: [
        ("CULTURE", 1, 400),
        ("TIME", 401, 520),
        ("SPACE", 521, 640),
        ("BIOLOGY", 641, 760),
        ("PHYSICS", 761, 880),
        ("CHEMISTRY", 881, 1000),
    ],
    score: "binary WiScore",
    weights: [0.4, 0.12, 0.12, 0.12, 0.12, 0.12],
};

/// The categories that a user may ask for.
const CATEGORIES: [&str; 4] = ["all", "culture", "space-time", "science"];

/// Writes the legacy report from the digits of consistency, realism and aesthetic quality, one digit a prompt.
///
/// # Errors
/// An error if a field is missing or not digits, if the three differ in length, or if the category does not exist.
pub fn legacy(case: &Case<'_>) -> Result<Value, ScoreError> {
    let aspects = ASPECTS
        .iter()
        .map(|name| digits(case, name, 9))
        .collect::<Result<Vec<_>, _>>()?;
    let count = aspects[0].len();
    if aspects.iter().any(|digits| digits.len() != count) {
        return Err(ScoreError::wrong(&ASPECTS, "as long as the other two"));
    }
    let scores = (0..count)
        .map(|i| wiscore(aspects[0][i], aspects[1][i], aspects[2][i]))
        .collect();
    report(case, &LEGACY, scores)
}

/// Writes the verified report from the digits of the score.
///
/// # Errors
/// An error if a field is missing or not the digits 0 and 1, or if the category does not exist.
pub fn verified(case: &Case<'_>) -> Result<Value, ScoreError> {
    report(case, &VERIFIED, digits(case, "score", 1)?)
}

fn digits(case: &Case<'_>, name: &str, most: u32) -> Result<Vec<f64>, ScoreError> {
    let text = case.text(&[name])?;
    text.chars()
        .map(|c| {
            c.to_digit(most + 1)
                .map(f64::from)
                .ok_or_else(|| ScoreError::wrong(&[name], &format!("a text of digits from 0 to {most}")))
        })
        .collect()
}

fn report(case: &Case<'_>, protocol: &WiseProtocol, scores: Vec<f64>) -> Result<Value, ScoreError> {
    let first = case.whole(&["first_id"])?;
    let asked = case.text(&["category"])?;
    if !CATEGORIES.contains(&asked) {
        return Err(ScoreError::wrong(&["category"], &CATEGORIES.join(", ")));
    }
    let present = first..first.saturating_add(scores.len() as u64);
    let means = protocol.categories.map(|(name, from, to)| {
        let of: Vec<f64> = present
            .clone()
            .zip(&scores)
            .filter(|(id, _)| (from..=to).contains(id))
            .map(|(_, score)| *score)
            .collect();
        (name, of.iter().sum::<f64>() / of.len() as f64, of.len())
    });
    let (from, to) = asked_range(asked, protocol);
    let missing: Vec<u64> = (from..=to).filter(|id| !present.contains(id)).collect();
    let text = if missing.is_empty() {
        full(asked, protocol, &means)
    } else {
        lacking(asked, &missing)
    };
    Ok(json!({ "text": text }))
}

fn asked_range(asked: &str, protocol: &WiseProtocol) -> (u64, u64) {
    let [culture, time, space, biology, _, chemistry] = protocol.categories;
    match asked {
        "culture" => (culture.1, culture.2),
        "space-time" => (time.1, space.2),
        "science" => (biology.1, chemistry.2),
        _ => (culture.1, chemistry.2),
    }
}

fn lacking(asked: &str, missing: &[u64]) -> String {
    let missing = format!(
        "[{}]",
        missing.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
    );
    let start = "\n--- Processing file: FILE ---\n";
    if asked == "all" {
        return format!(
            "{start}\nError: When '--category all' is specified, the combined files are missing the following prompt_ids:\nMissing IDs: {missing}\n\nAborting overall evaluation due to incomplete data.\n"
        );
    }
    format!(
        "{start}Error: File 'FILE': When evaluating as '--category {asked}', missing the following prompt_ids: {missing}\nCould not process 'FILE'. Please check previous warnings/errors.\nNo valid data processed from any of the provided files. Exiting.\n"
    )
}

fn full(asked: &str, protocol: &WiseProtocol, means: &[(&str, f64, usize); 6]) -> String {
    let rule = "=".repeat(50);
    let mut table = String::new();
    for (name, mean, count) in means.iter().filter(|mean| mean.2 > 0) {
        let _ = write!(
            table,
            "  Category: {name}\n    Average {}: {mean:.2}\n    Number of samples: {count}\n\n",
            protocol.score
        );
    }
    let mut text = format!(
        "\n--- Processing file: FILE ---\n\n{rule}\n                 Individual File Reports\n{rule}\n\n--- Evaluation Results for File: FILE ---\n{table}{}\n\n\n{rule}\n                 Overall Evaluation Summary\n{rule}\n\nAggregated Category Scores:\n{table}",
        "-".repeat(46),
    );
    if asked == "all" {
        let overall: f64 = means
            .iter()
            .zip(protocol.weights)
            .map(|(mean, weight)| weight * mean.1)
            .sum();
        let [culture, time, space, biology, physics, chemistry] = means.map(|mean| mean.1);
        let _ = write!(
            text,
            "\n--- Overall WiScore Across All Categories ---\nOverall WiScore: {overall:.2}\nCultural\tTime\tSpace\tBiology\tPhysics\tChemistry\tOverall\n{culture:.2}\t\t{time:.2}\t{space:.2}\t{biology:.2}\t{physics:.2}\t{chemistry:.2}\t\t{overall:.2}\n"
        );
    } else {
        text.push_str("\nOverall WiScore calculation skipped. To calculate overall score, use '--category all' and provide files covering all prompt IDs.\n");
    }
    text
}

/// Reads lines as the legacy script does: scores by category, and the ids of all prompts, scored or not. The script
/// skips a line that is not JSON for Python, and gives up a file in which a line is JSON but not an object, nests too
/// deeply, or has an integer of too many digits. An id of more than 64 bits is written as a text of its digits.
///
/// # Errors
/// An error if the prediction is not a list of texts.
pub fn segment(case: &Case<'_>) -> Result<Value, ScoreError> {
    let mut by_category: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut present = BTreeSet::new();
    // A file ends its lines with either character, so a text of the list may be several lines.
    let texts = case.texts(&["prediction"])?;
    for line in texts.iter().flat_map(|text| text.split(['\n', '\r'])) {
        let fields = match loads(line) {
            Ok(PythonValue::Object(fields)) => fields,
            Ok(_) => return Ok(json!({ "error": "AttributeError" })),
            Err(PythonFault::NotJson) => continue,
            Err(PythonFault::Exception(name)) => return Ok(json!({ "error": name })),
        };
        let Some(id) = fields.get("prompt_id").and_then(whole) else {
            continue;
        };
        present.insert(id.clone());
        let scores: Option<Vec<f64>> = ASPECTS.iter().map(|name| number(fields.get(*name)?)).collect();
        let Some(scores) = scores else {
            continue;
        };
        let is_too_large = |name: &&str| match fields.get(*name) {
            Some(PythonValue::Int(whole)) => digits_as_float(whole).is_infinite(),
            _ => false,
        };
        if ASPECTS.iter().any(is_too_large) {
            return Ok(json!({ "error": "OverflowError" }));
        }
        let id = i64::try_from(&id).unwrap_or(0);
        let category = LEGACY
            .categories
            .iter()
            .find(|(_, from, to)| (*from as i64..=*to as i64).contains(&id));
        if let Some((category, ..)) = category {
            let score = float(wiscore(scores[0], scores[1], scores[2]));
            by_category.entry(*category).or_default().push(score);
        }
    }
    let present: Vec<Value> = present.iter().map(written).collect();
    Ok(json!({ "scores": by_category, "present_ids": present }))
}

/// The integer that Python takes a value for.
fn whole(value: &PythonValue) -> Option<BigInt> {
    match value {
        PythonValue::Int(whole) => Some(whole.clone()),
        PythonValue::Bool(yes) => Some(BigInt::from(u8::from(*yes))),
        _ => None,
    }
}

/// The float that Python takes a value for; infinite for an integer that is too large.
fn number(value: &PythonValue) -> Option<f64> {
    match value {
        PythonValue::Int(whole) => Some(digits_as_float(whole)),
        PythonValue::Float(number) => Some(*number),
        PythonValue::Bool(yes) => Some(f64::from(u8::from(*yes))),
        _ => None,
    }
}

/// The float that is nearest to an integer.
fn digits_as_float(whole: &BigInt) -> f64 {
    whole.to_string().parse().unwrap_or(f64::NAN)
}

fn written(id: &BigInt) -> Value {
    let short = i64::try_from(id).map(Value::from).ok();
    let long = || u64::try_from(id).map(Value::from).ok();
    short.or_else(long).unwrap_or_else(|| json!(id.to_string()))
}
