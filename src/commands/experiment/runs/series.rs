//! What became of a value in a run: the last, the best, the mean of the last tenth.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_storage::query;
use serde::{Deserialize, Serialize};

/// Of how many steps one counts as an end.
const TENTH: usize = 10;
/// Words in the names of values that are better when they are lower.
const LOWER: [&str; 7] = [
    "loss",
    "kl",
    "seconds",
    "overhead",
    "grad_norm",
    "clipped",
    "reconstruction",
];

/// What became of a value in a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ValueSeries {
    /// The last.
    pub last: f64,
    /// Its step.
    pub last_step: u64,
    /// The lowest of what is better when lower, else the highest.
    pub best: f64,
    /// Its step, the first of several.
    pub best_step: u64,
    /// The mean of the last tenth of the steps that have the value, of one at least.
    pub tail: f64,
    /// Steps that have the value.
    pub n: usize,
}

/// Which number of a series stands for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The last.
    #[default]
    Last,
    /// The best.
    Best,
    /// The mean of the last tenth.
    Tail,
}

impl ValueSeries {
    /// That number.
    pub fn of(&self, which: Which) -> f64 {
        match which {
            Which::Last => self.last,
            Which::Best => self.best,
            Which::Tail => self.tail,
        }
    }
}

/// Whether less of a value is better, by its name.
pub fn is_lower_better(name: &str) -> bool {
    LOWER.iter().any(|word| name.contains(word))
}

/// The values of a run whose names fit one of these patterns, by name; all but rates where there is none.
///
/// # Errors
/// The store's.
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

/// What becomes of points in the order of their steps; none of no points.
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

/// A number in few digits.
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
        // Three of twenty-five.
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
