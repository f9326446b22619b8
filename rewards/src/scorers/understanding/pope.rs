//! POPE and MME: yes-or-no questions about pictures.
//!
//! Source: POPE `evaluate.py`, MME `calculation.py`, VLMEvalKit `YOrN_Extraction`, `POPE_rating`, `MME_rating`,
//! lmms-eval.

use serde_json::{Map, Value, json};

use super::super::case::Case;
use super::super::{ScoreError, python};
use super::answers::{Rules, punctuation};
use super::mmada;

/// Parses one reply to POPE.
///
/// # Errors
/// An error if the reply is missing.
pub fn answer(case: &Case<'_>) -> Result<Value, ScoreError> {
    let reply = case.text(&["answer", "prediction"])?;
    let post = mmada::yes_or_no(reply);
    Ok(json!({
        "official": official(reply),
        "vlmevalkit": extract(reply),
        "mmada_then_vlmevalkit": extract(&post),
        "mmada_post": post,
        "lmms_eval": python::strip(&reply.to_lowercase()),
    }))
}

/// POPE's `evaluate.py`: no, if the first sentence has the word `No`, `no` or `not`; otherwise yes.
fn official(reply: &str) -> &'static str {
    let sentence = reply.split('.').next().unwrap_or(reply).replace(',', "");
    if sentence
        .split(' ')
        .any(|word| matches!(word, "No" | "not" | "no"))
    {
        "no"
    } else {
        "yes"
    }
}

/// VLMEvalKit's `YOrN_Extraction`: the word that occurs without the other.
pub fn extract(reply: &str) -> &'static str {
    let plain = punctuation(&reply.to_lowercase(), Rules::Kit);
    let words = python::words(&plain);
    match (words.contains(&"yes"), words.contains(&"no")) {
        (true, false) => "Yes",
        (false, true) => "No",
        _ => "Unknown",
    }
}

/// A question with its category, label and reply.
struct PopeQuestion<'a> {
    category: &'a str,
    label: &'a str,
    reply: &'a str,
}

fn rows<'a>(case: &Case<'a>) -> Result<Vec<PopeQuestion<'a>>, ScoreError> {
    let wrong = || ScoreError::wrong(&["rows"], "a list of {\"category\", \"label\", \"answer\"}");
    case.filled(&["rows"])?
        .iter()
        .map(|row| {
            let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or_else(wrong);
            let label = text("label")?;
            if !["yes", "no"].contains(&label.to_lowercase().as_str()) {
                return Err(ScoreError::wrong(&["rows[].label"], "yes or no"));
            }
            Ok(PopeQuestion {
                category: text("category")?,
                label,
                reply: text("answer").or_else(|_| text("prediction"))?,
            })
        })
        .collect()
}

/// Computes the metrics of a set: the official ones by category and overall, and the harnesses'.
///
/// # Errors
/// An error if a field is missing.
pub fn set(case: &Case<'_>) -> Result<Value, ScoreError> {
    let rows = rows(case)?;
    let mut figures = Map::new();
    for category in ["random", "popular", "adversarial"] {
        let of: Vec<&PopeQuestion<'_>> = rows.iter().filter(|row| row.category == category).collect();
        if !of.is_empty() {
            figures.insert(category.to_owned(), official_figures(&of));
        }
    }
    figures.insert(
        "overall".to_owned(),
        official_figures(&rows.iter().collect::<Vec<_>>()),
    );
    Ok(json!({ "official": figures, "lmms_eval": lmms_figures(&rows), "vlmevalkit": kit_figures(&rows) }))
}

/// Computes the metrics of a set whose categories are comma-separated lists, as in VLMEvalKit's table.
///
/// # Errors
/// An error if a field is missing.
pub fn merged(case: &Case<'_>) -> Result<Value, ScoreError> {
    Ok(json!({ "vlmevalkit": kit_figures(&rows(case)?) }))
}

fn official_figures(rows: &[&PopeQuestion<'_>]) -> Value {
    let count = |predicted: &str, label: &str| {
        rows.iter()
            .filter(|row| {
                official(row.reply) == predicted && (if row.label == "no" { "no" } else { "yes" }) == label
            })
            .count()
    };
    let (tp, fp, tn, fneg) = (
        count("yes", "yes"),
        count("yes", "no"),
        count("no", "no"),
        count("no", "yes"),
    );
    let mut figures = json!({ "TP": tp, "FP": fp, "TN": tn, "FN": fneg });
    let mut add = |name: &str, part: f64, whole: f64| {
        if whole == 0.0 {
            figures["error"] = json!("ZeroDivisionError");
            return None;
        }
        figures[name] = json!(part / whole);
        Some(part / whole)
    };
    // In the order of the script, which fails at the first division by zero and prints nothing after it.
    let (tp, fp, tn, fneg) = (tp as f64, fp as f64, tn as f64, fneg as f64);
    let _ = (|| {
        add("yes_ratio", tp + fp, tp + fp + tn + fneg)?;
        let precision = add("precision", tp, tp + fp)?;
        let recall = add("recall", tp, tp + fneg)?;
        add("f1", 2.0 * precision * recall, precision + recall)?;
        add("acc", tp + tn, tp + fp + tn + fneg)
    })();
    figures
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn f1(precision: f64, recall: f64) -> f64 {
    if precision + recall == 0.0 {
        0.0
    } else {
        2.0 * (precision * recall) / (precision + recall)
    }
}

fn lmms_figures(rows: &[PopeQuestion<'_>]) -> Value {
    let read: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let plain = |text: &str| python::strip(&text.to_lowercase()).to_owned();
            (plain(row.reply), plain(row.label))
        })
        .collect();
    let count = |reply: &str, label: &str| {
        read.iter()
            .filter(|pair| pair.0 == reply && pair.1 == label)
            .count()
    };
    let labelled = |label: &str| read.iter().filter(|pair| pair.1 == label).count();
    let precision = ratio(count("yes", "yes"), count("yes", "yes") + count("yes", "no"));
    let recall = ratio(count("yes", "yes"), count("yes", "yes") + count("no", "yes"));
    json!({
        "accuracy": ratio(read.iter().filter(|pair| pair.0 == pair.1).count(), read.len()),
        "precision": precision,
        "recall": recall,
        "f1_score": f1(precision, recall),
        "yes_ratio": ratio(labelled("yes"), labelled("yes") + labelled("no")),
    })
}

fn kit_figures(rows: &[PopeQuestion<'_>]) -> Value {
    let exploded: Vec<(&str, bool, &str)> = rows
        .iter()
        .flat_map(|row| {
            row.category.split(',').map(move |category| {
                (
                    category,
                    row.label.eq_ignore_ascii_case("yes"),
                    extract(row.reply),
                )
            })
        })
        .collect();
    let figures = |of: &dyn Fn(&str) -> bool| {
        let of: Vec<_> = exploded.iter().filter(|row| of(row.0)).collect();
        let count = |label: bool, said: bool| {
            of.iter()
                .filter(|row| row.1 == label && (row.2 == "Yes") == said)
                .count()
        };
        let right = of
            .iter()
            .filter(|row| row.2 == if row.1 { "Yes" } else { "No" })
            .count();
        let precision = ratio(count(true, true), count(true, true) + count(false, true));
        let recall = ratio(count(true, true), count(true, true) + count(true, false));
        json!({
            "f1": f1(precision, recall) * 100.0, "acc": ratio(right, of.len()) * 100.0,
            "precision": precision * 100.0, "recall": recall * 100.0,
        })
    };
    let mut all = Map::new();
    all.insert("Overall".to_owned(), figures(&|_| true));
    for (category, ..) in &exploded {
        if !all.contains_key(*category) {
            all.insert((*category).to_owned(), figures(&|other| other == *category));
        }
    }
    Value::Object(all)
}
