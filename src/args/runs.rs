//! The arguments of the commands about several runs: names, comparisons, the queue, and studies.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;

/// The name, the tags and the note of a run.
#[derive(Clone, Debug, Default, Args)]
pub struct LabelFlags {
    /// Name of the run, which commands accept in place of its id
    #[arg(long = "name", id = "run_name", value_name = "NAME")]
    pub run_name: Option<String>,
    /// Tag of the run; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Note about the run
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `demask resume`.
#[derive(Debug, Args)]
pub struct Resume {
    /// Stopped or failed run to continue from its last checkpoint [default: the current run, if it is paused]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Print the progress of the run line by line until it ends
    #[arg(long, requires = "run")]
    pub follow: bool,
    #[command(flatten)]
    /// Output
    pub output: Json,
}

/// `demask runs`.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List all runs, newest first
    List {
        /// List only runs with this tag; may be repeated, and a run must then have all of the tags
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Show one run: configuration, checkpoints, benchmarks
    Show {
        /// Run: its name or id, the beginning or end of its id, or `latest`
        run: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Show the differences between two runs
    Diff {
        /// First run
        a: String,
        /// Second run
        b: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Compare runs side by side: values, configurations, benchmarks
    #[command(
        after_help = "Each value is shown three times: the last, the best, and the mean of the last tenth of the steps.\nExamples:\n  demask runs compare first second latest\n  demask runs compare first second --metric 'eval/*' --json"
    )]
    Compare(RunsCompare),
    /// Change the name, the tags or the note of a run
    #[command(
        after_help = "Examples:\n  demask runs edit latest --name baseline --tag paper\n  demask runs edit baseline --untag paper --note 'learning rate too high'\n  demask runs edit baseline --name ''"
    )]
    Edit(RunsEdit),
}

/// `demask runs compare`.
#[derive(Debug, Args)]
pub struct RunsCompare {
    /// Runs to compare
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<String>,
    /// Compare only values whose names match, with `*` and `?`; may be repeated [default: all but rate/*]
    #[arg(long = "metric", value_name = "GLOB")]
    pub metrics: Vec<String>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask runs edit`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct RunsEdit {
    /// Run to change
    pub run: String,
    /// New name of the run; '' removes the name
    #[arg(long = "name", id = "run_name", value_name = "NAME", group = "change")]
    pub run_name: Option<String>,
    /// Add a tag; may be repeated
    #[arg(long = "tag", value_name = "TAG", group = "change")]
    pub tags: Vec<String>,
    /// Remove a tag; may be repeated
    #[arg(long = "untag", value_name = "TAG", group = "change")]
    pub untags: Vec<String>,
    /// New note about the run; '' removes the note
    #[arg(long, value_name = "TEXT", group = "change")]
    pub note: Option<String>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask queue`.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List the queued runs, the next one first
    List(Json),
    /// Move a queued run to another position
    Move {
        /// Run: its name or id, or the beginning or end of its id
        run: String,
        /// New position, counted from 1
        place: NonZeroUsize,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Remove a run from the queue
    Cancel {
        /// Run: its name or id, or the beginning or end of its id
        run: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
}

/// `demask study`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Study {
    /// Shows a study
    #[command(subcommand)]
    pub action: Option<StudyAction>,
    /// File of the study
    #[arg(value_name = "FILE.toml", required = true)]
    pub file: Option<PathBuf>,
    /// Return at once; the daemon continues the study's runs
    #[arg(long)]
    pub detach: bool,
    /// Print what would be run, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// An action on a study.
#[derive(Debug, Subcommand)]
pub enum StudyAction {
    /// Show the means over the seeds with their intervals, and the differences from the first setting
    Show {
        /// File of the study
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Also draw a chart to this file, .svg or .png: the mean of each setting over the seeds at each step, with its
        /// 95 % interval
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
        /// Smooth the lines with this weight of earlier values, 0 to 0.999
        #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, value_parser = super::values::weight, requires = "plot")]
        smooth: f64,
        /// Size of each value's chart in pixels
        #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "900x340", value_parser = super::values::size, requires = "plot")]
        size: demask_api::PictureSize,
        /// Overwrite an existing file
        #[arg(long, requires = "plot")]
        force: bool,
        /// Output
        #[command(flatten)]
        output: Json,
    },
}
