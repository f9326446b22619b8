//! Summaries of a value over a run: the last, the best, and the mean over the last tenth.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_storage::query;
use serde::{Deserialize, Serialize};

/// One step of this many belongs to the end.
const TENTH: usize = 10;
/// Words in the names of values for which lower is better.
const LOWER: [&str; 7] = [
    "loss",
    "kl",
    "seconds",
    "overhead",
    "grad_norm",
    "clipped",
    "reconstruction",
];

/// The summary of a value over a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ValueSeries {
    /// Last value.
    pub last: f64,
    /// Step of the last value.
    pub last_step: u64,
    /// Lowest value if lower is better, else the highest.
    pub best: f64,
    /// Step of the best value; the first of several.
    pub best_step: u64,
    /// Mean over the last tenth of the steps that have the value, at least one step.
    pub tail: f64,
    /// Number of steps that have the value.
    pub n: usize,
}

/// The number of a summary that represents a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The last value.
    #[default]
    Last,
    /// The best value.
    Best,
    /// The mean over the last tenth.
    Tail,
}

impl ValueSeries {
    /// Returns that number.
    pub fn of(&self, which: Which) -> f64 {
        match which {
            Which::Last => self.last,
            Which::Best => self.best,
            Which::Tail => self.tail,
        }
    }
}

/// Returns whether lower is better for a value, by its name.
pub fn is_lower_better(name: &str) -> bool {
    LOWER.iter().any(|word| name.contains(word))
}

/// Summarizes the values of a run whose names match one of these patterns, by name. Without patterns these are all
/// values except rates.
///
/// # Errors
/// Any error of the store.
pub fn read(home: &Home, run: &str, globs: &[String]) -> anyhow::Result<BTreeMap<String, ValueSeries>> {
    let quoted = |text: &str| text.replace('\'', "''");
    let fits: Vec<String> = globs
        .iter()
        .map(|glob| format!("name GLOB '{}'", quoted(glob)))
        .collect();
    let fits = match fits.as_slice() {
        [] => "name NOT GLOB 'rate/*'".to_owned(),
        fits => fits.join(" OR "),
    };
    let sql = format!(
        "SELECT name, step, value FROM v_metric WHERE run = '{}' AND value IS NOT NULL AND ({fits}) ORDER BY name, step",
        quoted(run)
    );
    let mut values: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for row in query::query(&home.database(), &sql, 0)?.rows {
        if let [name, step, value] = row.as_slice()
            && let (Some(name), Some(step), Some(value)) = (name.as_str(), step.as_u64(), value.as_f64())
        {
            values.entry(name.to_owned()).or_default().push((step, value));
        }
    }
    let series = values.into_iter().filter_map(|(name, points)| {
        let found = series(&points, is_lower_better(&name))?;
        Some((name, found))
    });
    Ok(series.collect())
}

/// Summarizes points in the order of their steps; `None` for no points.
fn series(points: &[(u64, f64)], lower: bool) -> Option<ValueSeries> {
    let (last_step, last) = *points.last()?;
    let better = |new: f64, old: f64| if lower { new < old } else { new > old };
    let (best_step, best) = points
        .iter()
        .copied()
        .reduce(|old, new| if better(new.1, old.1) { new } else { old })?;
    let tail = &points[points.len() - points.len().div_ceil(TENTH)..];
    Some(ValueSeries {
        last,
        last_step,
        best,
        best_step,
        tail: tail.iter().map(|(_, value)| value).sum::<f64>() / tail.len() as f64,
        n: points.len(),
    })
}

/// Formats a number with few digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.3e}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_the_best_and_the_last_tenth() {
        let points: Vec<(u64, f64)> = (1..=25).map(|step| (step, step as f64)).collect();
        let high = series(&points, false).unwrap();
        // The last tenth of 25 steps has three steps.
        assert_eq!(
            (high.last, high.best_step, high.tail, high.n),
            (25.0, 25, 24.0, 25)
        );
        let low = series(&points, true).unwrap();
        assert_eq!((low.best, low.best_step), (1.0, 1));
        assert_eq!(series(&points[..1], true).unwrap().tail, 1.0);
        assert!(series(&[], true).is_none());
        assert!(is_lower_better("train/loss_lm") && !is_lower_better("eval/tabletop-draw"));
    }
}
