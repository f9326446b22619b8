//! MME: fourteen tasks of yes-or-no questions, two per picture.
//!
//! Source: MME `calculation.py`, VLMEvalKit `MME_rating`, lmms-eval.

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::mmada;
use super::pope::extract;

/// The perception tasks.
const PERCEPTION: [&str; 10] = [
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
];
/// The cognition tasks.
const COGNITION: [&str; 4] = [
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
];

/// Parses one reply.
///
/// # Errors
/// An error if the reply is missing.
pub fn answer(case: &Case<'_>) -> Result<Value, ScoreError> {
    let reply = case.text(&["answer", "prediction"])?;
    let post = mmada::mme(reply);
    Ok(json!({
        "official": official(reply),
        "lmms_eval": lmms(reply),
        "vlmevalkit": extract(reply),
        "mmada_then_vlmevalkit": extract(&post),
        "mmada_post": post,
    }))
}

/// MME's `parse_pred_ans` of a line of the results file: what its first four characters contain.
fn official(reply: &str) -> &'static str {
    by_start(&format!("{reply}\n").to_lowercase())
}

fn lmms(reply: &str) -> &'static str {
    let lower = reply.to_lowercase();
    match python::strip(&lower).replace('.', "").as_str() {
        "y" => "yes",
        "n" => "no",
        other => by_start(other),
    }
}

fn by_start(reply: &str) -> &'static str {
    let start: String = reply.chars().take(4).collect();
    match reply {
        "yes" => "yes",
        "no" => "no",
        _ if start.contains("yes") => "yes",
        _ if start.contains("no") => "no",
        _ => "other",
    }
}

/// A question: its task, its picture, whether its reference is yes or no, whether each parser finds it right, and
/// whether the official one reads neither word.
struct MmeQuestion<'a> {
    category: &'a str,
    image: &'a str,
    is_known: bool,
    official: bool,
    kit: bool,
    other: bool,
}

/// Computes all tasks' scores: 100 · (accuracy + accuracy of pictures). Without a row the script says 0, as for a model
/// that has everything wrong; here that is an error.
///
/// # Errors
/// An error if a field is missing, or if there is no row.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let wrong = || {
        ScoreError::wrong(
            &["rows"],
            "a list of {\"category\", \"image\", \"answer\", \"prediction\"}",
        )
    };
    let rows = case
        .filled(&["rows"])?
        .iter()
        .map(|row| {
            let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or_else(wrong);
            let (gold, reply) = (text("answer")?, text("prediction")?);
            let read = official(reply);
            Ok(MmeQuestion {
                category: text("category")?,
                image: text("image")?,
                is_known: gold.eq_ignore_ascii_case("yes") || gold.eq_ignore_ascii_case("no"),
                official: read == gold.to_lowercase(),
                kit: extract(reply) == gold,
                other: read == "other",
            })
        })
        .collect::<Result<Vec<_>, ScoreError>>()?;
    Ok(json!({ "official": official_scores(&rows), "vlmevalkit": kit_scores(&rows) }))
}

fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (right, all) = of.fold((0u32, 0u32), |sums, right| {
        (sums.0 + u32::from(right), sums.1 + 1)
    });
    f64::from(right) / f64::from(all)
}

/// The script asserts that each of its tasks has two lines per picture, and references that are yes or no.
fn official_scores(rows: &[MmeQuestion<'_>]) -> Value {
    let is_sound = |name: &&str| {
        let of: Vec<&MmeQuestion<'_>> = rows.iter().filter(|row| row.category == *name).collect();
        of.chunks(2).all(|two| two.len() == 2) && of.iter().all(|row| row.is_known)
    };
    if !PERCEPTION.iter().chain(&COGNITION).all(is_sound) {
        return json!({ "error": "AssertionError" });
    }
    let mut tasks = Map::new();
    let mut group = |names: &[&str]| -> f64 {
        let scores = names.iter().filter_map(|name| {
            let of: Vec<&MmeQuestion<'_>> = rows.iter().filter(|row| row.category == *name).collect();
            if of.is_empty() {
                return None;
            }
            // Each picture has two adjacent lines.
            let (acc, plus) = (
                share(of.iter().map(|row| row.official)),
                share(of.chunks(2).map(|two| two.iter().all(|row| row.official))),
            );
            let score = acc * 100.0 + plus * 100.0;
            let other = of.iter().filter(|row| row.other).count();
            tasks.insert(
                (*name).to_owned(),
                json!({ "score": score, "acc": acc, "acc_plus": score / 100.0 - acc, "other": other }),
            );
            Some(score)
        });
        scores.fold(0.0, |sum, score| sum + score)
    };
    let (perception, cognition) = (group(&PERCEPTION), group(&COGNITION));
    json!({ "perception": perception, "cognition": cognition, "tasks": tasks })
}

/// A task's pictures, and whether each of their questions is right.
type PictureHits<'a> = Vec<(&'a str, Vec<bool>)>;

/// VLMEvalKit's scores of every task that occurs. It looks at the first two questions of a picture, and fails if there
/// is only one.
fn kit_scores(rows: &[MmeQuestion<'_>]) -> Value {
    let mut tasks: Vec<(&str, PictureHits<'_>)> = Vec::new();
    for row in rows {
        let at = tasks.iter().position(|task| task.0 == row.category);
        let at = at.unwrap_or_else(|| {
            tasks.push((row.category, Vec::new()));
            tasks.len() - 1
        });
        let images = &mut tasks[at].1;
        match images.iter_mut().find(|image| image.0 == row.image) {
            Some(image) => image.1.push(row.kit),
            None => images.push((row.image, vec![row.kit])),
        }
    }
    if tasks
        .iter()
        .flat_map(|task| &task.1)
        .any(|image| image.1.len() < 2)
    {
        return json!({ "error": "IndexError" });
    }
    let mut scores = Map::new();
    for (name, images) in &tasks {
        let acc = share(images.iter().flat_map(|image| image.1.iter().copied()));
        let plus = share(images.iter().map(|image| image.1[0] && image.1[1]));
        scores.insert((*name).to_owned(), json!(acc * 100.0 + plus * 100.0));
    }
    let group = |names: &[&str]| -> f64 {
        let of = names.iter().filter_map(|name| scores.get(*name)?.as_f64());
        of.fold(0.0, |sum, score| sum + score)
    };
    let (perception, reasoning) = (group(&PERCEPTION), group(&COGNITION));
    scores.insert("perception".to_owned(), json!(perception));
    scores.insert("reasoning".to_owned(), json!(reasoning));
    Value::Object(scores)
}
