//! The chart of a study: the mean of each setting over the seeds at each step, with its 95 % interval. For a value that
//! a run has only once, such as a benchmark at its end, it has one point per setting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use demask_actors::home::Home;
use demask_api::PictureSize;
use demask_rewards::statistics::mean_by_t;
use demask_storage::query::curves::{self, Curve, smoothed};
use demask_tui::chart::axis::Axis;
use demask_tui::chart::{Chart, Series};

use super::plan::StudyPlan;
use super::state::{StudyRunState, StudyRunStates};
use crate::figure::file;

/// The output of a study's chart.
pub struct StudyPicture<'a> {
    /// Output file, `.svg` or `.png`.
    pub file: &'a Path,
    /// Size of a value's chart in pixels.
    pub size: PictureSize,
    /// Smoothing weight of the past in a line.
    pub smooth: f64,
    /// Whether an existing file may be overwritten.
    pub force: bool,
}

/// A setting's mean at a step, and the ends of its interval.
type Point = (f64, f64, Option<(f64, f64)>);

impl StudyPicture<'_> {
    /// Draws the finished runs and returns the number of values.
    ///
    /// # Errors
    /// An error if the file may not be written, if no run is done, or if there are too many values.
    pub fn draw(&self, home: &Home, plan: &StudyPlan) -> anyhow::Result<usize> {
        let ending = file::check_output("--plot", self.file, &["svg", "png"], self.force)?;
        let charts = charts(home, plan, self.smooth)?;
        if charts.is_empty() {
            anyhow::bail!(
                "--plot {}: no finished run has a value to draw",
                self.file.display()
            );
        }
        if charts.len() > file::MOST_CHARTS {
            let (count, most) = (charts.len(), file::MOST_CHARTS);
            anyhow::bail!(
                "--plot: found {count} values, expected at most {most}; list fewer in the study's metrics"
            );
        }
        file::write_charts(self.file, &ending, &charts, self.size)?;
        Ok(charts.len())
    }
}

/// Makes a chart for each value.
fn charts(home: &Home, plan: &StudyPlan, smooth: f64) -> anyhow::Result<Vec<Chart>> {
    let states = StudyRunStates::read(home, plan)?;
    let done = plan
        .runs
        .iter()
        .filter(|run| states.of(run) == StudyRunState::Done);
    let setting: BTreeMap<&str, &str> = done
        .filter_map(|run| Some((states.id(run)?, run.setting.as_str())))
        .collect();
    let runs: Vec<String> = setting.keys().map(|run| (*run).to_owned()).collect();
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let all = ["*".to_owned()];
    let patterns = if plan.metrics.is_empty() {
        &all[..]
    } else {
        &plan.metrics
    };
    let found = curves::curves(&home.database(), &runs, patterns)?;
    let names: BTreeSet<&str> = found
        .iter()
        .map(|curve| curve.name.as_str())
        .filter(|name| !plan.metrics.is_empty() || !name.starts_with("rate/"))
        .collect();
    let of = |name: &str, wanted: &str| -> Vec<Point> {
        let own = found
            .iter()
            .filter(|curve| curve.name == name && setting.get(curve.run.as_str()) == Some(&wanted));
        means(own)
    };
    let charts = names.into_iter().filter_map(|name| {
        let lines = plan
            .settings
            .iter()
            .map(|setting| (setting.clone(), of(name, setting)));
        chart(name, lines.collect(), smooth)
    });
    Ok(charts.collect())
}

/// Returns the mean of several runs' values at each step that at least one of them has.
fn means<'a>(runs: impl Iterator<Item = &'a Curve>) -> Vec<Point> {
    // Steps are whole numbers.
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for point in runs.flat_map(|curve| &curve.points) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        at.entry(point.step as u64).or_default().push(point.value);
    }
    let point = |(step, values): (u64, Vec<f64>)| {
        let mean = mean_by_t(&values)?;
        Some((step as f64, mean.value, mean.low.zip(mean.high)))
    };
    at.into_iter().filter_map(point).collect()
}

/// Makes the chart of a value; `None` if no setting has it.
fn chart(name: &str, lines: Vec<(String, Vec<Point>)>, smooth: f64) -> Option<Chart> {
    let is_once = lines.iter().all(|(_, points)| points.len() < 2);
    let series: Vec<Series> = lines
        .into_iter()
        .enumerate()
        .filter(|(_, (_, points))| !points.is_empty())
        .map(|(number, (setting, points))| {
            let x = |step: f64| if is_once { (number + 1) as f64 } else { step };
            let line = |pick: fn(&Point) -> f64| {
                let values: Vec<f64> = points.iter().map(pick).collect();
                smoothed(&values, smooth)
            };
            let middle = line(|point| point.1);
            let low = line(|point| point.2.map_or(point.1, |ends| ends.0));
            let high = line(|point| point.2.map_or(point.1, |ends| ends.1));
            let steps = || points.iter().map(|point| x(point.0));
            let has_interval = points.iter().any(|point| point.2.is_some());
            let ends = steps().zip(low.into_iter().zip(high));
            Series {
                name: setting,
                points: steps().zip(middle).collect(),
                behind: Vec::new(),
                band: match has_interval {
                    true => ends.map(|(x, (low, high))| (x, low, high)).collect(),
                    false => Vec::new(),
                },
            }
        })
        .collect();
    let xs = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.0));
    let ys = series.iter().flat_map(|series| {
        let band = series.band.iter().flat_map(|&(_, low, high)| [low, high]);
        series.points.iter().map(|point| point.1).chain(band)
    });
    let (x, y) = (Axis::around(xs, false)?, Axis::around(ys, false)?.roomy());
    let x = if is_once { x.roomy() } else { x };
    Some(Chart {
        title: name.to_owned(),
        across: if is_once { "setting" } else { "step" }.to_owned(),
        series,
        turns: Vec::new(),
        x: x.whole(),
        y,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_storage::query::curves::CurvePoint;

    use super::*;

    fn curve(values: &[f64]) -> Curve {
        let point = |(step, &value): (usize, &f64)| CurvePoint {
            step: step as f64,
            seconds: 0.0,
            value,
        };
        Curve {
            run: String::new(),
            name: "loss".to_owned(),
            points: values.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn a_line_is_the_mean_of_the_seeds_and_its_band_their_interval() {
        let found = means([curve(&[1.0, 3.0]), curve(&[2.0])].iter());
        assert_eq!(found[1], (1.0, 3.0, None), "one seed alone has no interval");
        let (_, mean, ends) = found[0];
        assert_eq!(mean, 1.5);
        // The interval is half the distance times the 12.7 of one degree of freedom.
        let (low, high) = ends.unwrap();
        assert!((high - low - 12.7062).abs() < 1e-3, "{low} {high}");
        let chart = chart(
            "loss",
            vec![("a".to_owned(), found), ("b".to_owned(), Vec::new())],
            0.0,
        )
        .unwrap();
        assert_eq!((chart.series.len(), chart.across.as_str()), (1, "step"));
        assert!(chart.y.low < low && chart.y.high > high, "the band has room");
    }

    #[test]
    fn what_a_run_has_once_is_a_point_a_setting() {
        let once = |value: f64| means([curve(&[value]), curve(&[value + 1.0])].iter());
        let lines = vec![("a".to_owned(), once(1.0)), ("b".to_owned(), once(2.0))];
        let chart = chart("eval/own", lines, 0.0).unwrap();
        let at: Vec<f64> = chart.series.iter().map(|series| series.points[0].0).collect();
        assert_eq!((at, chart.across.as_str()), (vec![1.0, 2.0], "setting"));
    }
}
