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
    let names: BTreeMap<i64, &String> = case
        .object(&["question_type"])?
        .iter()
        .filter_map(|(name, id)| Some((id.as_i64()?, name)))
        .collect();
    let id = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let replies: BTreeMap<String, &str> = case
        .list(&["answers"])?
        .iter()
        .filter_map(|row| Some((id(row.get("question_id")?), row.get("text")?.as_str()?)))
        .collect();
    let (mut llava, mut lmms): (Shares, Shares) = Default::default();
    let mut rows = Vec::new();
    for question in case.list(&["questions"])? {
        let text = |name: &str| {
            question
                .get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| ScoreError::Missing(format!("questions[].{name}")))
        };
        let (gold, kind) = (text("answer")?, text("data_type")?);
        let category = question
            .get("question_type_id")
            .and_then(Value::as_i64)
            .and_then(|id| names.get(&id))
            .map_or("", |name| name.as_str());
        let reply = question
            .get("question_id")
            .map(id)
            .and_then(|id| replies.get(&id).copied());
        for name in [category, "Total", kind] {
            llava.add(name, reply == Some(gold));
        }
        if let Some(reply) = reply {
            let right =
                python::strip(&first_sign(reply).to_lowercase()) == python::strip(&gold.to_lowercase());
            lmms.add(&format!("seed_{kind}"), right);
            lmms.add("seed_all", right);
            let row: Map<String, Value> = [("category".to_owned(), json!(category))].into_iter().collect();
            rows.push((
                row,
                infer(reply, &options, Version::Fork).as_deref() == Some(gold),
            ));
        }
    }
    let rows: Vec<(&Map<String, Value>, bool)> = rows.iter().map(|(row, hit)| (row, *hit)).collect();
    Ok(json!({
        "llava_percent": llava.to_json(|share| python::round(share * 100.0, 2)),
        "lmms_eval_answered_only": lmms.to_json(|share| share),
        "vlmevalkit_answered_only": accuracies(&rows).get(0),
    }))
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

    fn to_json(&self, shown: impl Fn(f64) -> f64) -> Map<String, Value> {
        self.0
            .iter()
            .map(|(name, (right, all))| (name.clone(), json!(shown(*right as f64 / *all as f64))))
            .collect()
    }
}
