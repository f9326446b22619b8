//! The arguments of the commands that show runs: curves as a chart, a run as a page.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use demask_api::limits;

use super::output::Json;

/// `demask plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// Runs to draw in one chart: names, ids, the beginnings or ends of ids, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub runs: Vec<String>,
    /// Metrics to draw; `*` matches any characters; may be repeated
    #[arg(long = "metric", value_name = "GLOB", default_value = "train/loss")]
    pub metrics: Vec<String>,
    /// Smooth the lines with this weight of earlier values, 0 to 0.999; the raw values are drawn faintly
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, value_parser = super::values::weight)]
    pub smooth: f64,
    /// Use a logarithmic scale; values at or below 0 are left out
    #[arg(long)]
    pub log: bool,
    /// Quantity on the horizontal axis
    #[arg(long, value_enum, default_value_t = Across::Step)]
    pub x: Across,
    /// Write the chart to this file, .svg or .png [default: draw it in the terminal]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Size of each metric's chart in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "900x340", value_parser = super::values::size)]
    pub size: demask_api::PictureSize,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    /// Print the values instead of a chart
    pub values: Json,
}

/// The quantity on the horizontal axis of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Across {
    /// Steps of the run
    Step,
    /// Time since the start of the run
    Time,
}

/// `demask report`.
#[derive(Debug, Args)]
pub struct RunReport {
    /// Run: its name or id, the beginning or end of its id, or `latest`
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// File to write
    #[arg(long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Smooth the curves with this weight of earlier values, 0 to 0.999
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.6, value_parser = super::values::weight)]
    pub smooth: f64,
    /// Number of samples, and of items, of each kind on the page
    #[arg(long, default_value_t = 12, value_parser = super::values::within(limits::SHOWN_SAMPLES))]
    pub samples: usize,
    /// Overwrite an existing file
    #[arg(long)]
    pub force: bool,
}
