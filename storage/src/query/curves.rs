//! The curves of runs: a metric's values over steps and time, smoothed, and the knobs that were turned.
//!
//! The queries are SQL over the views, so that clients of the control socket and readers of the file use the same ones.

use std::path::Path;

use crate::store::{self, StoreError};

use super::{Rows, run};

/// The column that marks a result as points of curves.
pub const CURVE: &str = "curve";
/// The column that marks a result as turned knobs.
pub const TURNED: &str = "turned";

/// A value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// The run's step.
    pub step: f64,
    /// The time in seconds since the run began.
    pub seconds: f64,
    /// The value.
    pub value: f64,
}

/// A metric of a run, by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The run.
    pub run: String,
    /// The metric.
    pub name: String,
    /// The metric's values; all are finite.
    pub points: Vec<CurvePoint>,
}

/// A change of a knob.
#[derive(Clone, Debug, PartialEq)]
pub struct KnobTurn {
    /// The run.
    pub run: String,
    /// The step where it took effect.
    pub step: f64,
    /// The time in seconds since the run began.
    pub seconds: f64,
    /// The knob and its new value: `kl=0.02`.
    pub words: String,
}

/// Quotes a text for SQL.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(runs: &[String]) -> String {
    runs.iter().map(|run| quoted(run)).collect::<Vec<_>>().join(", ")
}

/// Writes the query of these runs' metrics whose names match one of the patterns (`reward/*`). With `most`, each metric
/// is thinned to about that many points, the means of neighbouring steps.
#[must_use]
pub fn points_sql(runs: &[String], patterns: &[String], most: Option<u64>) -> String {
    let fits = patterns
        .iter()
        .map(|pattern| format!("name GLOB {}", quoted(pattern)));
    let fits = fits.reduce(|one, other| format!("{one} OR {other}"));
    let (runs, fits) = (list(runs), fits.unwrap_or_else(|| "FALSE".to_owned()));
    let began = "(SELECT started_us FROM v_run WHERE v_run.run = v_metric.run)";
    let of = format!("FROM v_metric WHERE run IN ({runs}) AND ({fits}) AND value IS NOT NULL");
    match most {
        None => format!(
            "SELECT run AS {CURVE}, name, step, (at_us - {began}) / 1e6 AS seconds, value {of} ORDER BY run, name, step"
        ),
        Some(most) => format!(
            "SELECT run AS {CURVE}, name, avg(step) AS step, (min(at_us) - {began}) / 1e6 AS seconds, avg(value) AS value {of} \
             GROUP BY run, name, step / max(1, (SELECT max(step) FROM v_latest WHERE run IN ({runs})) / {}) \
             ORDER BY run, name, step",
            most.max(1)
        ),
    }
}

/// Writes the query of the knobs that were turned in these runs.
#[must_use]
pub fn turns_sql(runs: &[String]) -> String {
    let runs = list(runs);
    format!(
        "SELECT run AS {TURNED}, applied_step AS step, \
         (at_us - (SELECT started_us FROM v_run WHERE v_run.run = v_steer.run)) / 1e6 AS seconds, key || '=' || new AS words \
         FROM v_steer WHERE run IN ({runs}) AND action = 'set' AND applied_step IS NOT NULL AND key IS NOT NULL \
         ORDER BY run, applied_step"
    )
}

/// Reads curves from a result of text cells; rows of another form are skipped.
#[must_use]
pub fn curves_of(rows: &[Vec<String>]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        let [run, name, step, seconds, value] = row.as_slice() else {
            continue;
        };
        let (Ok(step), Ok(value)) = (step.parse(), value.parse()) else {
            continue;
        };
        let point = CurvePoint {
            step,
            seconds: seconds.parse().unwrap_or(0.0),
            value,
        };
        match curves.last_mut() {
            Some(curve) if curve.run == *run && curve.name == *name => curve.points.push(point),
            _ => curves.push(Curve {
                run: run.clone(),
                name: name.clone(),
                points: vec![point],
            }),
        }
    }
    curves
}

/// Reads turned knobs from a result of text cells.
#[must_use]
pub fn turns_of(rows: &[Vec<String>]) -> Vec<KnobTurn> {
    let turn = |row: &Vec<String>| {
        let [run, step, seconds, words] = row.as_slice() else {
            return None;
        };
        Some(KnobTurn {
            run: run.clone(),
            step: step.parse().ok()?,
            seconds: seconds.parse().unwrap_or(0.0),
            words: words.clone(),
        })
    };
    rows.iter().filter_map(turn).collect()
}

/// Returns these runs' metrics whose names match one of the patterns, by name, then in the order of the runs.
///
/// # Errors
/// Those of [`super::query`].
pub fn curves(path: &Path, runs: &[String], patterns: &[String]) -> Result<Vec<Curve>, StoreError> {
    let rows = run(
        &store::open_read_only(path)?,
        &points_sql(runs, patterns, None),
        0,
    )?;
    let mut found = curves_of(&texts(&rows));
    let place = |curve: &Curve| runs.iter().position(|run| *run == curve.run);
    found.sort_by(|one, other| (&one.name, place(one)).cmp(&(&other.name, place(other))));
    Ok(found)
}

/// Returns the names of these runs' metrics.
///
/// # Errors
/// Those of [`super::query`].
pub fn metrics(path: &Path, runs: &[String]) -> Result<Vec<String>, StoreError> {
    let sql = format!(
        "SELECT DISTINCT name FROM v_latest WHERE run IN ({}) ORDER BY name",
        list(runs)
    );
    let rows = run(&store::open_read_only(path)?, &sql, 0)?;
    Ok(texts(&rows).into_iter().flatten().collect())
}

/// Returns the knobs that were turned in these runs.
///
/// # Errors
/// Those of [`super::query`].
pub fn turns(path: &Path, runs: &[String]) -> Result<Vec<KnobTurn>, StoreError> {
    let rows = run(&store::open_read_only(path)?, &turns_sql(runs), 0)?;
    Ok(turns_of(&texts(&rows)))
}

/// Converts a result's cells to texts.
#[must_use]
pub fn texts(rows: &Rows) -> Vec<Vec<String>> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.rows
        .iter()
        .map(|row| row.iter().map(text).collect())
        .collect()
}

/// Smooths values exponentially: each is `weight` times the previous mean plus the rest of the value. The start is not
/// biased towards 0 (Adam's correction, arXiv 1412.6980). Weight 0 changes nothing.
#[must_use]
pub fn smoothed(values: &[f64], weight: f64) -> Vec<f64> {
    let weight = weight.clamp(0.0, 0.9999);
    let (mut mean, mut share) = (0.0, 0.0);
    let mut smooth = |value: &f64| {
        mean = weight * mean + (1.0 - weight) * value;
        share = weight * share + (1.0 - weight);
        mean / share
    };
    values.iter().map(&mut smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_level_and_damps_what_leaps() {
        assert_eq!(smoothed(&[1.0, 3.0], 0.0), [1.0, 3.0]);
        let level = smoothed(&[2.0; 50], 0.9);
        assert!(level.iter().all(|value| (value - 2.0).abs() < 1e-9), "{level:?}");
        let leaping: Vec<f64> = (0..100).map(|at| f64::from(at % 2)).collect();
        let smooth = smoothed(&leaping, 0.9);
        assert!(
            smooth[20..].iter().all(|value| (0.4..0.6).contains(value)),
            "{smooth:?}"
        );
    }
}
