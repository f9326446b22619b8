//! Charts of runs' curves: what is drawn, and along which axes. `axis.rs` is an axis with its ticks, `raster.rs` draws
//! lines in characters, `draw.rs` draws the whole chart on a screen or as text.
//!
//! Not here: where the values come from (`demask_storage::query::curves`), and charts in files (the `demask` command).

pub mod axis;
pub mod draw;
mod raster;

use demask_storage::query::curves::{Curve, KnobTurn, smoothed};

use axis::Axis;

/// The quantity of the horizontal axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Along {
    /// The run's steps.
    #[default]
    Step,
    /// The time since the run began.
    Time,
}

/// How curves are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChartStyle {
    /// The weight of earlier values in the smoothed line; 0 draws the values themselves.
    pub smooth: f64,
    /// Whether values are on a logarithmic scale; those at or below 0 are left out.
    pub log: bool,
    /// The quantity of the horizontal axis.
    pub along: Along,
    /// The visible part of the horizontal axis; `None` for all of it.
    pub window: Option<(f64, f64)>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The curve's name in the legend.
    pub name: String,
    /// The smoothed points of the curve.
    pub points: Vec<(f64, f64)>,
    /// The raw values if the line is smoothed.
    pub behind: Vec<(f64, f64)>,
    /// The interval of each point, if known: position, lower end, upper end. Only files show it.
    pub band: Vec<(f64, f64, f64)>,
}

/// A chart of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The metric.
    pub title: String,
    /// The name of the horizontal axis: `step`, `minutes`.
    pub across: String,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
    /// Positions at which a knob was turned, with the knob and its value.
    pub turns: Vec<(f64, String)>,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
}

impl Chart {
    /// Makes a chart for each metric of curves that are sorted by name.
    #[must_use]
    pub fn each(
        found: &[Curve],
        turns: &[KnobTurn],
        named: impl Fn(&Curve) -> String,
        style: ChartStyle,
    ) -> Vec<Self> {
        let of_one = found.chunk_by(|one, other| one.name == other.name);
        let charts = of_one.filter_map(|curves| {
            let curves: Vec<&Curve> = curves.iter().collect();
            Self::of(&curves, turns, &named, style)
        });
        charts.collect()
    }

    /// Makes the chart of a metric's curves, each named by `named`; `None` if nothing can be drawn.
    #[must_use]
    pub fn of(
        curves: &[&Curve],
        turns: &[KnobTurn],
        named: impl Fn(&Curve) -> String,
        style: ChartStyle,
    ) -> Option<Self> {
        let (unit, across) = unit(curves, style.along);
        let place = |step: f64, seconds: f64| match style.along {
            Along::Step => step,
            Along::Time => seconds / unit,
        };
        let is_within = |x: f64| style.window.is_none_or(|(low, high)| (low..=high).contains(&x));
        let series: Vec<Series> = curves
            .iter()
            .map(|curve| {
                let raw: Vec<f64> = curve.points.iter().map(|point| point.value).collect();
                let at = |values: Vec<f64>| -> Vec<(f64, f64)> {
                    let places = curve.points.iter().map(|point| place(point.step, point.seconds));
                    places
                        .zip(values)
                        .filter(|(x, y)| is_within(*x) && y.is_finite() && (!style.log || *y > 0.0))
                        .collect()
                };
                Series {
                    name: named(curve),
                    points: at(smoothed(&raw, style.smooth)),
                    behind: if style.smooth > 0.0 { at(raw) } else { Vec::new() },
                    band: Vec::new(),
                }
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        let all = || {
            series
                .iter()
                .flat_map(|series| series.points.iter().chain(&series.behind))
        };
        let y = Axis::around(all().map(|point| point.1), style.log)?.roomy();
        let x = match style.window {
            Some((low, high)) => Axis::new(low, high, false),
            None => Axis::around(all().map(|point| point.0), false)?,
        };
        let x = if style.along == Along::Step { x.whole() } else { x };
        let turns = turns
            .iter()
            .filter(|turn| curves.iter().any(|curve| curve.run == turn.run));
        let turns = turns.map(|turn| (place(turn.step, turn.seconds), turn.words.clone()));
        Some(Self {
            title: curves.first().map_or(String::new(), |curve| curve.name.clone()),
            across: across.to_owned(),
            turns: turns.filter(|(at, _)| x.place(*at).is_some()).collect(),
            series,
            x,
            y,
        })
    }
}

/// Returns the seconds of the longest curve.
pub(crate) fn longest(curves: &[&Curve]) -> f64 {
    let ends = curves.iter().filter_map(|curve| curve.points.last());
    ends.map(|point| point.seconds).fold(0.0, f64::max)
}

/// Returns the seconds in the unit of times, and the unit's name.
pub(crate) fn unit(curves: &[&Curve], along: Along) -> (f64, &'static str) {
    let longest = longest(curves);
    match along {
        Along::Step => (1.0, "step"),
        Along::Time if longest < 180.0 => (1.0, "seconds"),
        Along::Time if longest < 10_800.0 => (60.0, "minutes"),
        Along::Time => (3600.0, "hours"),
    }
}
