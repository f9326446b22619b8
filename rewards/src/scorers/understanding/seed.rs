//! SEED-Bench: one reply, its prompts, the ranking by loss, and a run.
//!
//! Source: AILab-CVC/SEED-Bench `eval.py`, LLaVA `convert_seed_for_submission.py`, lmms-eval, VLMEvalKit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::mmada;
use super::mmbench::accuracies;
use super::options::{Version, infer, inferred, options};

/// Parses one reply by each harness.
///
/// # Errors
/// An error if a field is missing.
pub fn answer(case: &Case<'_>) -> Result<Value, ScoreError> {
    let options = options(case.object(&["choices", "reference"])?);
    let reply = case.text(&["response", "prediction"])?;
    let post = mmada::choice(reply);
    Ok(json!({
        "lmms_eval": first_sign(reply),
        "lmms_eval_compared_lowercase": true,
        "llava_exact": reply,
        "vlmevalkit": inferred(infer(reply, &options, Version::Fork)),
        "vlmevalkit_head": inferred(infer(reply, &options, Version::Head)),
        "mmada_post_then_infer": inferred(infer(&post, &options, Version::Fork)),
        "mmada_post": post,
    }))
}

fn first_sign(reply: &str) -> String {
    python::strip(reply).chars().take(1).collect()
}

/// Writes lmms-eval's prompts.
///
/// # Errors
/// An error if a field is missing.
pub fn prompt(case: &Case<'_>) -> Result<Value, ScoreError> {
    let question = case.text(&["question"])?;
    let choices = ["choice_a", "choice_b", "choice_c", "choice_d"].map(|name| case.text(&[name]));
    let choices = choices.into_iter().collect::<Result<Vec<_>, _>>()?;
    let lines: Vec<String> = choices
        .iter()
        .zip('A'..)
        .map(|(choice, letter)| format!("{letter}. {choice}"))
        .collect();
    Ok(json!({
        "lmms_eval": format!("{question}\n{}\nAnswer with the option's letter from the given choices directly.", lines.join("\n")),
        "lmms_eval_ranking_context": format!("{question} Answer :"),
        "lmms_eval_ranking_choices": choices,
    }))
}

/// Returns the choice of least loss.
///
/// # Errors
/// An error if the losses are missing.
pub fn ranking(case: &Case<'_>) -> Result<Value, ScoreError> {
    let losses = case.numbers(&["losses", "prediction"])?;
    let least = losses
        .iter()
        .enumerate()
        .filter(|(_, loss)| !loss.is_nan())
        .reduce(|best, next| if next.1 < best.1 { next } else { best });
    let letter = least.and_then(|(at, _)| ('A'..='Z').nth(at)).map(String::from);
    Ok(json!({ "official": letter }))
}

/// Scores a run: LLaVA's percentages with unanswered questions as wrong, and the harnesses' shares of the answered
/// ones.
///
/// # Errors
/// An error if a field is missing.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let options: Map<String, Value> = case
        .object(&["choices"])?
        .iter()
        .map(|(name, text)| (name.trim_start_matches("choice_").to_uppercase(), text.clone()))
        .collect();
    let options = self::options(&options);
    let questions = questions(case)?;
    let mut lmms = Shares::default();
    let mut rows = Vec::new();
    for question in &questions {
        let (gold, kind) = (question.gold, question.kind);
        if let Some(reply) = question.reply {
            let right =
                python::strip(&first_sign(reply).to_lowercase()) == python::strip(&gold.to_lowercase());
            lmms.add(&format!("seed_{kind}"), right);
            lmms.add("seed_all", right);
            let category = ("category".to_owned(), json!(question.dimension.1));
            let row: Map<String, Value> = [category].into_iter().collect();
            rows.push((
                row,
                infer(reply, &options, Version::Fork).as_deref() == Some(gold),
            ));
        }
    }
    let rows: Vec<(&Map<String, Value>, bool)> = rows.iter().map(|(row, hit)| (row, *hit)).collect();
    Ok(json!({
        "llava_percent": llava(&questions),
        "lmms_eval_answered_only": lmms.to_json(),
        "vlmevalkit_answered_only": accuracies(&rows).get(0),
    }))
}

/// A question with the number and name of its dimension, and its reply if there is one.
struct SeedQuestion<'a> {
    dimension: (i64, &'a str),
    kind: &'a str,
    gold: &'a str,
    reply: Option<&'a str>,
}

fn questions<'a>(case: &Case<'a>) -> Result<Vec<SeedQuestion<'a>>, ScoreError> {
    let names: BTreeMap<i64, &str> = case
        .object(&["question_type"])?
        .iter()
        .filter_map(|(name, id)| Some((id.as_i64()?, name.as_str())))
        .collect();
    let id = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let wrong = || ScoreError::wrong(&["answers"], "a list of {\"question_id\", \"text\"}");
    let replies = case
        .list(&["answers"])?
        .iter()
        .map(|row| {
            let text = row.get("text").and_then(Value::as_str).ok_or_else(wrong)?;
            Ok((row.get("question_id").map(id).ok_or_else(wrong)?, text))
        })
        .collect::<Result<BTreeMap<String, &str>, ScoreError>>()?;
    case.filled(&["questions"])?
        .iter()
        .map(|question| {
            let missing = |name: &str| ScoreError::Missing(format!("questions[].{name}"));
            let text = |name: &str| {
                let text = question.get(name).and_then(Value::as_str);
                text.ok_or_else(|| missing(name))
            };
            let number = question.get("question_type_id").and_then(Value::as_i64);
            let number = number.ok_or_else(|| missing("question_type_id"))?;
            let name = names.get(&number).copied();
            let name = name.ok_or_else(|| ScoreError::Missing(format!("question_type of {number}")))?;
            let id = question.get("question_id").map(id);
            Ok(SeedQuestion {
                dimension: (number, name),
                kind: text("data_type")?,
                gold: text("answer")?,
                reply: replies.get(&id.ok_or_else(|| missing("question_id"))?).copied(),
            })
        })
        .collect()
}

/// Computes what LLaVA's script prints: the percentage of each dimension, of all, of pictures, of videos. It raises at
/// a dimension in which every question has a wrong reply, and prints nothing after it.
fn llava(questions: &[SeedQuestion<'_>]) -> Map<String, Value> {
    let percent = |right: u64, all: u64| json!(python::round(right as f64 / all as f64 * 100.0, 2));
    let mut percents = Map::new();
    for (kind, title) in [
        (None, "Total"),
        (Some("image"), "image"),
        (Some("video"), "video"),
    ] {
        let mut dimensions: BTreeMap<(i64, &str), (u64, u64, bool)> = BTreeMap::new();
        for question in questions {
            if kind.is_none_or(|kind| kind == question.kind) {
                let is_right = question.reply == Some(question.gold);
                let counts = dimensions.entry(question.dimension).or_default();
                counts.0 += u64::from(is_right);
                counts.1 += 1;
                counts.2 |= is_right || question.reply.is_none();
            }
        }
        for ((_, name), (right, all, is_counted)) in &dimensions {
            if !is_counted {
                percents.insert("error".to_owned(), json!("KeyError"));
                return percents;
            }
            if kind.is_none() {
                percents.insert((*name).to_owned(), percent(*right, *all));
            }
        }
        let (right, all) = dimensions
            .values()
            .fold((0, 0), |sums, counts| (sums.0 + counts.0, sums.1 + counts.1));
        if all > 0 {
            percents.insert(title.to_owned(), percent(right, all));
        }
    }
    percents
}

/// Counts of right and all answers, by name.
#[derive(Default)]
struct Shares(BTreeMap<String, (u64, u64)>);

impl Shares {
    fn add(&mut self, name: &str, right: bool) {
        let counts = self.0.entry(name.to_owned()).or_default();
        counts.0 += u64::from(right);
        counts.1 += 1;
    }

    fn to_json(&self) -> Map<String, Value> {
        self.0
            .iter()
            .map(|(name, (right, all))| (name.clone(), json!(*right as f64 / *all as f64)))
            .collect()
    }
}
