//! Aggregation of verdicts: the mean of every number and boolean in them, by path.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The running means of verdicts, by scorer.
#[derive(Debug, Default)]
pub struct Aggregate {
    means: BTreeMap<String, BTreeMap<String, (f64, u64)>>,
    cases: BTreeMap<String, u64>,
}

impl Aggregate {
    /// Adds a verdict of a scorer.
    pub fn add(&mut self, scorer: &str, verdict: &Value) {
        *self.cases.entry(scorer.to_owned()).or_default() += 1;
        let means = self.means.entry(scorer.to_owned()).or_default();
        count(means, "", verdict);
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

fn count(means: &mut BTreeMap<String, (f64, u64)>, path: &str, value: &Value) {
    let number = match value {
        Value::Bool(yes) => Some(if *yes { 1.0 } else { 0.0 }),
        Value::Number(number) => number.as_f64(),
        Value::Object(fields) => {
            for (name, field) in fields {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                count(means, &inner, field);
            }
            None
        }
        _ => None,
    };
    if let Some(number) = number {
        let mean = means.entry(path.to_owned()).or_default();
        mean.0 += number;
        mean.1 += 1;
    }
}
