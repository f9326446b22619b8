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

/// Computes the metrics of a set in percent. Where the official script raises, the verdict is the exception's name: a
/// prediction, a question's choices or an entailed question is missing, or no question belongs to a group.
///
/// # Errors
/// An error if a field is missing or of the wrong type.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let questions = case.object(&["questions"])?;
    let choices = case.optional("choices", "an object", Value::as_object)?;
    let with_consistency = case
        .optional("consistency", "true or false", Value::as_bool)?
        .unwrap_or(false);
    let predictions = predictions(case)?;
    let mut asked = Vec::new();
    for (id, question) in questions {
        let is_balanced = question.get("isBalanced").and_then(Value::as_bool);
        let is_balanced = is_balanced.ok_or_else(|| missing(id, "/isBalanced"))?;
        if (with_consistency || is_balanced) && !predictions.contains_key(id.as_str()) {
            return Ok(raised("Exception"));
        }
        if is_balanced {
            asked.push((id.as_str(), question));
        }
    }
    let mut figures = Figures::default();
    for (id, value) in asked {
        let question = GqaQuestion::of(id, value)?;
        let predicted = predictions.get(id).copied().flatten();
        figures.add(&question, predicted);
        if let Some(choices) = choices.filter(|choices| !choices.is_empty()) {
            let is_common = text(id, value, "/types/detailed")?.contains("Common");
            for (name, field) in [("validity", "valid"), ("plausibility", "plausible")] {
                let Some(group) = choices.get(id).and_then(|choices| choices.get(field)) else {
                    return Ok(raised("KeyError"));
                };
                figures.score(name, belongs(predicted, group, is_common));
            }
        }
        if with_consistency {
            let entailed = value.get("entailed").and_then(Value::as_array);
            let entailed = entailed.ok_or_else(|| missing(id, "/entailed"))?;
            let others: Vec<&str> = entailed
                .iter()
                .filter_map(Value::as_str)
                .filter(|other| *other != id)
                .collect();
            if predicted == Some(question.answer) && !others.is_empty() {
                let Some(share) = consistency(&others, questions, &predictions) else {
                    return Ok(raised("KeyError"));
                };
                figures.scores.entry("consistency").or_default().push(share);
            }
        }
    }
    Ok(json!({ "official": figures.to_json(choices.is_some(), with_consistency) }))
}

fn raised(exception: &str) -> Value {
    json!({ "official": { "error": exception } })
}

/// Answers by question; `None` for an answer that is not a text, which is wrong.
type Predictions<'a> = BTreeMap<&'a str, Option<&'a str>>;

fn predictions<'a>(case: &Case<'a>) -> Result<Predictions<'a>, ScoreError> {
    let wrong = || ScoreError::wrong(&["predictions"], "a list of {\"questionId\", \"prediction\"}");
    case.list(&["predictions"])?
        .iter()
        .map(|row| {
            let id = row.get("questionId").and_then(Value::as_str).ok_or_else(wrong)?;
            Ok((id, row.get("prediction").ok_or_else(wrong)?.as_str()))
        })
        .collect()
}

/// The share of entailed questions with the right answer; `None` if one of the questions does not exist.
fn consistency(
    entailed: &[&str],
    questions: &Map<String, Value>,
    predictions: &Predictions<'_>,
) -> Option<f64> {
    let mut right = 0;
    for id in entailed {
        let gold = questions.get(*id)?.get("answer")?.as_str();
        right += usize::from(predictions.get(*id).copied().flatten() == gold);
    }
    Some(right as f64 / entailed.len() as f64)
}

/// Whether the prediction is among a question's choices; a question about common features has three fixed ones.
fn belongs(predicted: Option<&str>, choices: &Value, is_common: bool) -> bool {
    let Some(predicted) = predicted else { return false };
    if is_common {
        return matches!(predicted, "color" | "material" | "shape");
    }
    choices
        .as_array()
        .is_some_and(|choices| choices.iter().any(|choice| choice == predicted))
}

fn missing(id: &str, path: &str) -> ScoreError {
    ScoreError::Missing(format!("questions.{id}{}", path.replace('/', ".")))
}

fn text<'a>(id: &str, question: &'a Value, path: &str) -> Result<&'a str, ScoreError> {
    let text = question.pointer(path).and_then(Value::as_str);
    text.ok_or_else(|| missing(id, path))
}

/// A question, as far as the metrics depend on it.
struct GqaQuestion<'a> {
    answer: &'a str,
    structural: &'a str,
    semantic: &'a str,
    steps: usize,
    words: usize,
    group: Option<&'a str>,
}

impl<'a> GqaQuestion<'a> {
    fn of(id: &str, question: &'a Value) -> Result<Self, ScoreError> {
        let group = question.pointer("/groups/global");
        Ok(Self {
            answer: text(id, question, "/answer")?,
            structural: text(id, question, "/types/structural")?,
            semantic: text(id, question, "/types/semantic")?,
            steps: steps(id, question)?,
            words: python::words(text(id, question, "/question")?).len(),
            group: group.ok_or_else(|| missing(id, "/groups/global"))?.as_str(),
        })
    }
}

/// Counts the operations of a question that are steps.
fn steps(id: &str, question: &Value) -> Result<usize, ScoreError> {
    let operations = question.get("semantic").and_then(Value::as_array);
    let mut steps = 0;
    for step in operations.ok_or_else(|| missing(id, "/semantic"))? {
        let part = |name: &str| step.get(name).and_then(Value::as_str);
        let (Some(operation), Some(argument)) = (part("operation"), part("argument")) else {
            return Err(missing(id, "/semantic"));
        };
        let step = format!("{operation}: {argument}");
        let is_step = !["exist", "query: name", "choose name"]
            .iter()
            .any(|word| step.contains(word));
        steps += usize::from(is_step);
    }
    Ok(steps)
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

    fn add(&mut self, question: &GqaQuestion<'a>, predicted: Option<&'a str>) {
        let right = predicted == Some(question.answer);
        self.score("accuracy", right);
        self.score(
            if question.structural == "query" {
                "open"
            } else {
                "binary"
            },
            right,
        );
        let keys = [
            ("accuracyPerStructuralType", question.structural.to_owned()),
            ("accuracyPerSemanticType", question.semantic.to_owned()),
            ("accuracyPerSteps", question.steps.to_string()),
            ("accuracyPerLength", question.words.to_string()),
        ];
        for (name, key) in keys {
            self.groups
                .entry(name)
                .or_default()
                .entry(key)
                .or_default()
                .push(if right { 1.0 } else { 0.0 });
        }
        let Some(group) = question.group else { return };
        *self
            .gold
            .entry(group)
            .or_default()
            .entry(question.answer)
            .or_default() += 1.0;
        if let Some(predicted) = predicted {
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
