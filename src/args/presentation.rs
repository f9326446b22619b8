//! The arguments of the commands that show runs: curves as a chart, a run as a page.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::Json;

/// `demask plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// Runs that are laid over each other: ids, their beginnings or ends, or the word latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub runs: Vec<String>,
    /// Metrics, * stands for any letters; may be given again
    #[arg(long = "metric", value_name = "GLOB", default_value = "train/loss")]
    pub metrics: Vec<String>,
    /// Smooth the lines: the weight of what came before, 0 to 0.999; the values themselves are drawn faintly
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, value_parser = super::values::weight)]
    pub smooth: f64,
    /// A logarithmic scale; values at or below 0 are left out
    #[arg(long)]
    pub log: bool,
    /// What lies across
    #[arg(long, value_enum, default_value_t = Across::Step)]
    pub x: Across,
    /// Write it to this file, .svg or .png; without it the chart is drawn here
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Pixels of a metric's chart
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "900x340", value_parser = super::values::size)]
    pub size: demask_api::PictureSize,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    /// The values instead of a chart
    pub values: Json,
}

/// What lies across in a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Across {
    /// Steps of the run
    Step,
    /// Time since the run began
    Time,
}

/// `demask report`.
#[derive(Debug, Args)]
pub struct RunReport {
    /// The run: its id, the beginning or the end of it, or the word latest
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// The page's file
    #[arg(long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Weight of what came before in the curves, 0 to 0.999
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.6, value_parser = super::values::weight)]
    pub smooth: f64,
    /// Samples and items of each kind
    #[arg(long, default_value_t = 12)]
    pub samples: usize,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}
