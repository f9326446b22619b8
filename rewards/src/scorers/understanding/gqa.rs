//! GQA: equality of an answer, and the metrics of a whole set.
//!
//! Source: `eval.py` 1.2; LLaVA's `convert_gqa_for_eval.py`; lmms-eval; VLMEvalKit's method `accuracy`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};

/// Scores one answer.
///
/// # Errors
/// An error if a field is missing.
pub fn pair(case: &Case<'_>) -> Result<Value, ScoreError> {
    let gold = case.text(&["answer", "reference"])?;
    let reply = case.text(&["prediction"])?;
    let converted = reply.trim_end_matches('.').to_lowercase();
    let plain = |text: &str| python::without_punctuation(&text.to_lowercase());
    let stripped = |text: &str| python::strip(text).to_lowercase();
    Ok(json!({
        "official_raw": reply == gold,
        "official_after_llava_conversion": converted == gold,
        "llava_converted": converted,
        "lmms_eval": plain(python::strip(reply)) == plain(gold),
        "vlmevalkit": stripped(reply) == stripped(gold),
    }))
}

/// Computes the metrics of a set in percent. A missing prediction makes the official script raise.
///
/// # Errors
/// An error if a field is missing.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let questions = case.object(&["questions"])?;
    let choices = case.find(&["choices"]).and_then(Value::as_object);
    let with_consistency = case
        .find(&["consistency"])
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let predictions: BTreeMap<&str, &str> = case
        .list(&["predictions"])?
        .iter()
        .filter_map(|row| Some((row.get("questionId")?.as_str()?, row.get("prediction")?.as_str()?)))
        .collect();
    let is_asked = |question: &Value| question["isBalanced"] == json!(true);
    if questions.iter().any(|(id, question)| {
        (with_consistency || is_asked(question)) && !predictions.contains_key(id.as_str())
    }) {
        return Ok(json!({ "official": { "error": "Exception" } }));
    }
    let mut figures = Figures::default();
    for (id, question) in questions.iter().filter(|(_, question)| is_asked(question)) {
        let predicted = predictions.get(id.as_str()).copied().unwrap_or_default();
        figures.add(question, predicted);
        if let Some(choices) = choices {
            for (name, field) in [("validity", "valid"), ("plausibility", "plausible")] {
                figures.score(name, belongs(predicted, &choices[id][field], question));
            }
        }
        if with_consistency && predicted == text(question, "answer") {
            let entailed: Vec<&str> = question["entailed"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .filter(|other| other != id)
                .collect();
            let right = entailed
                .iter()
                .filter(|other| {
                    questions
                        .get(**other)
                        .is_some_and(|question| predictions.get(**other) == Some(&text(question, "answer")))
                })
                .count();
            if !entailed.is_empty() {
                figures
                    .scores
                    .entry("consistency")
                    .or_default()
                    .push(right as f64 / entailed.len() as f64);
            }
        }
    }
    Ok(json!({ "official": figures.to_json(choices.is_some(), with_consistency) }))
}

fn text<'a>(question: &'a Value, field: &str) -> &'a str {
    question[field].as_str().unwrap_or_default()
}

/// Whether the prediction is among a question's choices; a question about common features has three fixed ones.
fn belongs(predicted: &str, choices: &Value, question: &Value) -> bool {
    if text(&question["types"], "detailed").contains("Common") {
        return matches!(predicted, "color" | "material" | "shape");
    }
    choices
        .as_array()
        .is_some_and(|choices| choices.iter().any(|choice| choice == predicted))
}

/// Counts of answers by group of questions.
type Histogram<'a> = BTreeMap<&'a str, BTreeMap<&'a str, f64>>;

#[derive(Default)]
struct Figures<'a> {
    scores: BTreeMap<&'static str, Vec<f64>>,
    groups: BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>,
    gold: Histogram<'a>,
    predicted: Histogram<'a>,
}

impl<'a> Figures<'a> {
    fn score(&mut self, name: &'static str, right: bool) {
        self.scores
            .entry(name)
            .or_default()
            .push(if right { 1.0 } else { 0.0 });
    }

    fn add(&mut self, question: &'a Value, predicted: &'a str) {
        let gold = text(question, "answer");
        let right = predicted == gold;
        let types = &question["types"];
        self.score("accuracy", right);
        self.score(
            if text(types, "structural") == "query" {
                "open"
            } else {
                "binary"
            },
            right,
        );
        let keys = [
            ("accuracyPerStructuralType", text(types, "structural").to_owned()),
            ("accuracyPerSemanticType", text(types, "semantic").to_owned()),
            ("accuracyPerSteps", steps(question).to_string()),
            (
                "accuracyPerLength",
                python::words(text(question, "question")).len().to_string(),
            ),
        ];
        for (name, key) in keys {
            self.groups
                .entry(name)
                .or_default()
                .entry(key)
                .or_default()
                .push(if right { 1.0 } else { 0.0 });
        }
        if let Some(group) = question["groups"]["global"].as_str() {
            *self.gold.entry(group).or_default().entry(gold).or_default() += 1.0;
            *self
                .predicted
                .entry(group)
                .or_default()
                .entry(predicted)
                .or_default() += 1.0;
        }
    }

    /// Computes the chi-square distance between reference and predicted answers of each group, weighted by its size, in
    /// hundredths.
    fn distribution(&self) -> Option<f64> {
        let (mut sum, mut size) = (0.0, 0.0);
        for (group, gold) in &self.gold {
            let predicted = |answer: &str| {
                self.predicted
                    .get(group)
                    .and_then(|answers| answers.get(answer))
                    .copied()
                    .unwrap_or(0.0)
            };
            let score: f64 = gold
                .iter()
                .map(|(answer, expected)| (predicted(answer) - expected).powi(2) / expected)
                .sum();
            let overall: f64 = gold.values().sum();
            sum += score * overall;
            size += overall;
        }
        (size > 0.0).then(|| sum / size / 100.0)
    }

    fn to_json(&self, with_choices: bool, with_consistency: bool) -> Value {
        let Some(distribution) = self.distribution() else {
            return json!({ "error": "ZeroDivisionError" });
        };
        let mut figures = Map::new();
        let mut names = vec!["accuracy", "binary", "open"];
        names.extend(
            with_choices
                .then_some(["validity", "plausibility"])
                .into_iter()
                .flatten(),
        );
        names.extend(with_consistency.then_some("consistency"));
        for name in names {
            figures.insert(
                name.to_owned(),
                json!(percent(self.scores.get(name).map_or(&[], Vec::as_slice))),
            );
        }
        figures.insert("distribution".to_owned(), json!(distribution));
        for (name, groups) in &self.groups {
            let groups: Map<String, Value> = groups
                .iter()
                .map(|(key, scores)| {
                    (
                        key.clone(),
                        json!({ "percent": percent(scores), "n": scores.len() }),
                    )
                })
                .collect();
            figures.insert((*name).to_owned(), Value::Object(groups));
        }
        Value::Object(figures)
    }
}

fn percent(scores: &[f64]) -> f64 {
    if scores.is_empty() {
        0.0
    } else {
        scores.iter().sum::<f64>() / scores.len() as f64 * 100.0
    }
}

/// Counts the operations of a question that are steps.
fn steps(question: &Value) -> usize {
    question["semantic"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| {
            let step = format!("{}: {}", text(step, "operation"), text(step, "argument"));
            !["exist", "query: name", "choose name"]
                .iter()
                .any(|word| step.contains(word))
        })
        .count()
}
