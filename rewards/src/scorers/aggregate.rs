//! Aggregation of verdicts: the mean of every number and boolean in them, by path.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The running means of verdicts, by scorer.
#[derive(Debug, Default)]
pub struct Aggregate {
    means: BTreeMap<String, BTreeMap<String, (f64, u64)>>,
    cases: BTreeMap<String, u64>,
    /// The path of the value that is being counted.
    path: String,
}

impl Aggregate {
    /// Adds a verdict of a scorer.
    pub fn add(&mut self, scorer: &str, verdict: &Value) {
        update(&mut self.cases, scorer, |cases| *cases += 1);
        let path = &mut self.path;
        update(&mut self.means, scorer, |means| count(means, path, verdict));
    }

    /// Returns scorer, path, mean, and number of verdicts with that path.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, f64, u64)> {
        self.means.iter().flat_map(|(scorer, means)| {
            means
                .iter()
                .map(|(path, (sum, count))| (scorer.as_str(), path.as_str(), sum / *count as f64, *count))
        })
    }

    /// Returns each scorer with its number of cases.
    pub fn cases(&self) -> impl Iterator<Item = (&str, u64)> {
        self.cases.iter().map(|(scorer, count)| (scorer.as_str(), *count))
    }

    /// Converts the means to JSON: by scorer, `cases`, and `mean` by path.
    pub fn to_json(&self) -> Value {
        let scorers: Map<String, Value> = self
            .cases()
            .map(|(scorer, cases)| {
                let mean: Map<String, Value> = self
                    .rows()
                    .filter(|row| row.0 == scorer)
                    .map(|row| (row.1.to_owned(), json!(row.2)))
                    .collect();
                (scorer.to_owned(), json!({ "cases": cases, "mean": mean }))
            })
            .collect();
        Value::Object(scorers)
    }
}

/// Changes an entry of a map, and copies its key only if the entry is new.
fn update<T: Default>(map: &mut BTreeMap<String, T>, key: &str, change: impl FnOnce(&mut T)) {
    if let Some(value) = map.get_mut(key) {
        change(value);
    } else {
        change(map.entry(key.to_owned()).or_default());
    }
}

fn count(means: &mut BTreeMap<String, (f64, u64)>, path: &mut String, value: &Value) {
    let number = match value {
        Value::Bool(yes) => Some(if *yes { 1.0 } else { 0.0 }),
        Value::Number(number) => number.as_f64(),
        Value::Object(fields) => {
            let length = path.len();
            for (name, field) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                count(means, path, field);
                path.truncate(length);
            }
            None
        }
        _ => None,
    };
    if let Some(number) = number {
        update(means, path, |mean| {
            mean.0 += number;
            mean.1 += 1;
        });
    }
}
