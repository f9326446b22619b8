//! MMBench: one reply, a run over all rotations of the options, and the construction of rotations.
//!
//! Source: VLMEvalKit `mcq_circular_eval`, `mcq_vanilla_eval`, `report_acc`, `tools.py CIRCULAR`; lmms-eval; MMaDA.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::ScoreError;
use super::super::case::{Case, float};
use super::mmada;
use super::options::{Version, infer, infer_lmms, inferred, options};

/// The distance of the indices of a question's rotations.
const OFFSET: i64 = 1_000_000;

/// The short names of the six abilities.
const SHORT: [(&str, &str); 6] = [
    ("coarse_perception", "CP"),
    ("finegrained_perception (instance-level)", "FP-S"),
    ("finegrained_perception (cross-instance)", "FP-C"),
    ("logic_reasoning", "LR"),
    ("relation_reasoning", "RR"),
    ("attribute_reasoning", "AR"),
];

/// Matches one reply to the options.
///
/// # Errors
/// An error if a field is missing.
pub fn can_infer(case: &Case<'_>) -> Result<Value, ScoreError> {
    let options = options(case.object(&["choices", "reference"])?);
    let reply = case.text(&["prediction", "response"])?;
    let post = mmada::choice(reply);
    Ok(json!({
        "mmada_fork": inferred(infer(reply, &options, Version::Fork)),
        "vlmevalkit_head": inferred(infer(reply, &options, Version::Head)),
        "lmms_eval": infer_lmms(reply, &options),
        "mmada_post_then_infer": inferred(infer(&post, &options, Version::Fork)),
        "mmada_post": post,
    }))
}

/// Scores a run: a question is right if every rotation of it is. A prediction that is null is the text `nan`, as in a
/// table with an empty cell. Where no row is a question's first pass, the tool writes a table without a figure; here that
/// is an error.
///
/// # Errors
/// An error if a field is missing, or if no row is a question's first pass.
pub fn circular(case: &Case<'_>) -> Result<Value, ScoreError> {
    let wrong = || {
        ScoreError::wrong(
            &["rows"],
            "a list of {\"index\", options, \"answer\", \"prediction\"}",
        )
    };
    let mut groups: BTreeMap<i64, bool> = BTreeMap::new();
    let mut first: BTreeMap<i64, (&Map<String, Value>, bool)> = BTreeMap::new();
    let mut order = Vec::new();
    let rows = case.filled(&["rows"])?;
    let has_groups = rows
        .iter()
        .any(|row| row.get("g_index").is_some_and(|group| !group.is_null()));
    for row in rows {
        let row = row.as_object().ok_or_else(wrong)?;
        let index = row.get("index").and_then(Value::as_i64).ok_or_else(wrong)?;
        let group = if has_groups {
            row.get("g_index").and_then(Value::as_i64).ok_or_else(wrong)?
        } else {
            index % OFFSET
        };
        let reply = match row.get("prediction").ok_or_else(wrong)? {
            Value::Null => "nan",
            reply => reply.as_str().ok_or_else(wrong)?,
        };
        let gold = row.get("answer").ok_or_else(wrong)?.as_str();
        let found = infer(reply, &options(row), Version::Fork);
        let hit = found.is_some() && found.as_deref() == gold;
        *groups.entry(group).or_insert(true) &= hit;
        if index == group {
            first.insert(group, (row, hit));
            order.push(group);
        }
    }
    if order.is_empty() {
        return Err(ScoreError::wrong(
            &["rows"],
            "a list with a question's first pass",
        ));
    }
    let report = |hit: &dyn Fn(i64) -> bool| {
        let rows: Vec<(&Map<String, Value>, bool)> =
            order.iter().map(|group| (first[group].0, hit(*group))).collect();
        let hits: Map<String, Value> = order
            .iter()
            .map(|group| (group.to_string(), json!(i32::from(hit(*group)))))
            .collect();
        json!({ "hits": hits, "accuracy": accuracies(&rows) })
    };
    let mut verdict = report(&|group| groups[&group]);
    verdict["vanilla_first_pass"] = report(&|group| first[&group].1);
    Ok(verdict)
}

/// VLMEvalKit's `report_acc`: one row per split, with the overall accuracy, then every ability and category.
pub fn accuracies(rows: &[(&Map<String, Value>, bool)]) -> Value {
    let field =
        |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut splits: Vec<String> = rows
        .iter()
        .map(|(row, _)| field(row, "split").unwrap_or_else(|| "none".to_owned()))
        .collect();
    let of_split = splits.clone();
    splits.sort();
    splits.dedup();
    let means = |split: &str, of: &dyn Fn(&Map<String, Value>) -> bool| {
        let hits: Vec<f64> = rows
            .iter()
            .zip(&of_split)
            .filter(|((row, _), its)| *its == split && of(row))
            .map(|((_, hit), _)| f64::from(u8::from(*hit)))
            .collect();
        float(hits.iter().sum::<f64>() / hits.len() as f64)
    };
    splits
        .iter()
        .map(|split| {
            let mut line = Map::new();
            line.insert("split".to_owned(), json!(split));
            line.insert("Overall".to_owned(), means(split, &|_| true));
            for group in ["l2-category", "category"] {
                for name in rows.iter().filter_map(|(row, _)| field(row, group)) {
                    let short = SHORT
                        .iter()
                        .find(|short| short.0 == name)
                        .map_or(name.as_str(), |short| short.1);
                    line.insert(
                        short.to_owned(),
                        means(split, &|row| field(row, group).as_deref() == Some(&name)),
                    );
                }
            }
            Value::Object(line)
        })
        .collect()
}

/// Rows by their number of options; `None` for rows whose options are not rotated.
type Group<'a> = (Option<usize>, Vec<&'a Map<String, Value>>);

/// Makes the table with every rotation of the options: groups by number of options, in the order of their appearance.
/// The tool fails on a row with one option or a gap between options, and on one without an answer.
///
/// # Errors
/// An error if a field is missing.
pub fn circularise(case: &Case<'_>) -> Result<Value, ScoreError> {
    let wrong = || {
        ScoreError::wrong(
            &["rows"],
            "a list of {\"index\", \"image\", \"question\", options, \"answer\"}",
        )
    };
    let rows = case
        .filled(&["rows"])?
        .iter()
        .map(|row| row.as_object().ok_or_else(wrong))
        .collect::<Result<Vec<_>, _>>()?;
    let largest = rows
        .iter()
        .filter_map(|row| row.get("index")?.as_i64())
        .max()
        .unwrap_or(0);
    let mut offset = OFFSET;
    while largest >= offset {
        offset = offset.saturating_mul(10);
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut is_blank = false;
    for row in rows {
        let options = options(row);
        let has_gap = options
            .iter()
            .zip('A'..)
            .any(|((letter, _), next)| !letter.starts_with(next));
        if has_gap || options.len() == 1 {
            return Ok(json!({ "official": { "error": "AssertionError" } }));
        }
        let answer = row.get("answer").ok_or_else(wrong)?.as_str();
        let is_usual = !options.is_empty() && !is_abnormal(&options);
        if is_usual && answer.is_none() {
            return Ok(json!({ "official": { "error": "TypeError" } }));
        }
        is_blank |= is_usual && answer == Some("");
        let is_plain = is_usual && options.iter().any(|(letter, _)| answer == Some(letter.as_str()));
        let key = is_plain.then_some(options.len());
        match groups.iter_mut().find(|group| group.0 == key) {
            Some(group) => group.1.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    if is_blank {
        return Ok(json!({ "official": { "error": "NotImplementedError" } }));
    }
    let mut table = Vec::new();
    for (count, rows) in groups {
        for pass in 0..count.unwrap_or(1) {
            for row in &rows {
                table.push(rotated(row, count.unwrap_or(0), pass, offset).ok_or_else(wrong)?);
            }
        }
    }
    Ok(json!({ "official": table }))
}

/// Whether an option is itself a letter or refers to several options.
fn is_abnormal(options: &[(String, String)]) -> bool {
    options.iter().any(|(_, text)| {
        let words: String = text
            .chars()
            .map(|c| if c.is_ascii_alphabetic() { c } else { ' ' })
            .collect();
        let mut named: Vec<&str> = words
            .split(' ')
            .filter(|word| options.iter().any(|(letter, _)| letter == word))
            .collect();
        named.sort_unstable();
        named.dedup();
        named.len() > 1 || "ABCDEFGHIJKLMNOPQRSTUVWXYZ".contains(text.as_str())
    })
}

fn rotated(row: &Map<String, Value>, count: usize, pass: usize, offset: i64) -> Option<Value> {
    let mut turned = row.clone();
    let index = row.get("index")?.as_i64()?;
    turned.insert("g_index".to_owned(), json!(index));
    if pass > 0 {
        let letters: Vec<String> = ('A'..).take(count).map(String::from).collect();
        let to = |i: usize| &letters[(i + count - pass) % count];
        turned.insert("index".to_owned(), json!(index + offset * pass as i64));
        turned.insert("image".to_owned(), json!(index.to_string()));
        for (i, letter) in letters.iter().enumerate() {
            turned.insert(to(i).clone(), row.get(letter)?.clone());
            if row.get("answer")?.as_str()? == letter {
                turned.insert("answer".to_owned(), json!(to(i)));
            }
        }
    }
    Some(Value::Object(turned))
}
