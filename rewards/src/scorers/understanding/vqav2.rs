//! VQAv2: the accuracy of an answer against ten people's, by the official evaluation and by the harnesses.
//!
//! Source: GT-Vision-Lab/VQA `vqaEval.py` under Python 2.7; lmms-eval; VLMEvalKit; LLaVA's submission.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::super::ScoreError;
use super::super::case::Case;
use super::answers::{Rules, is_plain, normalised, submission, tidy};

/// Scores one question.
///
/// # Errors
/// An error if a field is missing.
pub fn pair(case: &Case<'_>) -> Result<Value, ScoreError> {
    let prediction = case.text(&["prediction"])?;
    let answers = answers(case.need(&["answers", "reference"])?)?;
    let tidied: Vec<String> = answers.iter().map(|answer| tidy(answer)).collect();
    let forms: Vec<Forms> = with_forms(&tidied);
    let predicted = Forms::new(&tidy(prediction));
    let unanimous = is_unanimous(&tidied);
    let compared: Vec<&str> = if unanimous {
        tidied.iter().map(String::as_str).collect()
    } else {
        forms.iter().map(|forms| forms.official.as_str()).collect()
    };
    let tidy_prediction = tidy(prediction);
    let said = if unanimous {
        &tidy_prediction
    } else {
        &predicted.official
    };
    let exact = 100.0 * accuracy(&compared, said);
    let lmms: Vec<&str> = forms.iter().map(|forms| forms.lmms.as_str()).collect();
    let kit: Vec<&str> = forms.iter().map(|forms| forms.kit.as_str()).collect();
    Ok(json!({
        "official": round_up(exact),
        "official_exact": exact,
        "unanimous": unanimous,
        "lmms_eval": accuracy(&lmms, &predicted.lmms),
        "vlmevalkit": accuracy(&kit, &predicted.kit),
        "official_answers_compared": compared,
        "normalised_prediction": predicted.official,
        "vlmevalkit_normalised_prediction": predicted.kit,
        "llava_submission_answer": submission(prediction),
    }))
}

/// A text as normalised by each variant of the rules.
#[derive(Clone)]
struct Forms {
    official: String,
    lmms: String,
    kit: String,
}

impl Forms {
    fn new(text: &str) -> Self {
        let official = normalised(text, Rules::Official);
        if is_plain(text) {
            return Self {
                lmms: official.clone(),
                kit: official.clone(),
                official,
            };
        }
        Self {
            official,
            lmms: normalised(text, Rules::Lmms),
            kit: normalised(text, Rules::Kit),
        }
    }
}

/// Normalises each text. Most people agree, so equal texts share one result.
fn with_forms(texts: &[String]) -> Vec<Forms> {
    let mut forms: Vec<Forms> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let known = texts[..i].iter().position(|before| before == text);
        forms.push(known.map_or_else(|| Forms::new(text), |known| forms[known].clone()));
    }
    forms
}

fn answers(value: &Value) -> Result<Vec<&str>, ScoreError> {
    let wrong = || ScoreError::wrong(&["answers"], "a list of at least one text or {\"answer\"}");
    let list = value
        .as_array()
        .filter(|list| !list.is_empty())
        .ok_or_else(wrong)?;
    list.iter()
        .map(|answer| answer.get("answer").unwrap_or(answer).as_str().ok_or_else(wrong))
        .collect()
}

fn is_unanimous(answers: &[String]) -> bool {
    answers.windows(2).all(|pair| pair[0] == pair[1])
}

/// Computes the percentage before rounding. If all answers agree, nothing is normalised, so that texts in pictures stay
/// as they are.
fn official(tidied: &[String], prediction: &str) -> f64 {
    let prediction = tidy(prediction);
    if is_unanimous(tidied) {
        let answers: Vec<&str> = tidied.iter().map(String::as_str).collect();
        return 100.0 * accuracy(&answers, &prediction);
    }
    let answers: Vec<String> = tidied
        .iter()
        .map(|answer| normalised(answer, Rules::Official))
        .collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    100.0 * accuracy(&answers, &normalised(&prediction, Rules::Official))
}

/// Computes the mean over the ten answers of min(1, matches among the other nine / 3).
fn accuracy(answers: &[&str], prediction: &str) -> f64 {
    let matches = answers.iter().filter(|answer| **answer == prediction).count();
    let sum: f64 = answers
        .iter()
        .map(|answer| {
            let others = if *answer == prediction {
                matches - 1
            } else {
                matches
            };
            (others as f64 / 3.0).min(1.0)
        })
        .sum();
    sum / answers.len() as f64
}

/// Python 2's `round(value, 2)`: ties, which only eighths can be, away from zero.
fn round_up(value: f64) -> f64 {
    let is_tie = (value * 8.0).fract() == 0.0 && (value * 8.0) % 2.0 == 1.0;
    if is_tie {
        (value * 100.0 + 0.5).floor() / 100.0
    } else {
        super::super::python::round(value, 2)
    }
}

/// Scores many questions: overall, by question type and by answer type, in percent.
///
/// # Errors
/// An error if a field is missing, or if a question occurs twice.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let rows = case.filled(&["rows"])?;
    let mut ids = BTreeSet::new();
    let mut named = rows.iter().filter_map(|row| row.get("question_id"));
    if !named.all(|id| ids.insert(id.to_string())) {
        return Err(ScoreError::wrong(&["rows"], "a list with each question_id once"));
    }
    let wrong = || {
        ScoreError::wrong(
            &["rows"],
            "a list of {\"question_type\", \"answer_type\", \"answers\", \"prediction\"}",
        )
    };
    let mut all = Vec::new();
    let mut questions: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or_else(wrong);
        let tidied: Vec<String> = answers(row.get("answers").ok_or_else(wrong)?)?
            .iter()
            .map(|answer| tidy(answer))
            .collect();
        let accuracy = official(&tidied, text("prediction")?) / 100.0;
        all.push(accuracy);
        questions
            .entry(text("question_type")?)
            .or_default()
            .push(accuracy);
        kinds.entry(text("answer_type")?).or_default().push(accuracy);
    }
    let by = |groups: &BTreeMap<&str, Vec<f64>>| -> Map<String, Value> {
        groups
            .iter()
            .map(|(name, values)| ((*name).to_owned(), json!(round_up(percent(values)))))
            .collect()
    };
    Ok(json!({ "official": {
        "overall": round_up(percent(&all)),
        "perQuestionType": by(&questions),
        "perAnswerType": by(&kinds),
        "overall_exact": percent(&all),
    } }))
}

fn percent(values: &[f64]) -> f64 {
    100.0 * values.iter().sum::<f64>() / values.len() as f64
}
