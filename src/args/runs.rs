//! The arguments of the commands about several runs: names, comparisons, the queue, and studies.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;

/// What a run is called.
#[derive(Clone, Debug, Default, Args)]
pub struct LabelFlags {
    /// A name for the run, which stands for its id from now on
    #[arg(long = "name", id = "run_name", value_name = "NAME")]
    pub run_name: Option<String>,
    /// A tag; may be given again
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Something to remember about it
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `demask resume`.
#[derive(Debug, Args)]
pub struct Resume {
    /// A run that was stopped or failed, to go on from its last checkpoint [default: the present run, if it is held]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Print where the run is, line by line, until it ends
    #[arg(long, requires = "run")]
    pub follow: bool,
    #[command(flatten)]
    /// Output
    pub output: Json,
}

/// `demask runs`.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// All runs, newest first
    List {
        /// Only those with this tag; may be given again, all must fit
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// One run: configuration, checkpoints, benchmarks
    Show {
        /// Its id or name, the beginning or the end of its id, or the word latest
        run: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// What differs between two runs
    Diff {
        /// One run
        a: String,
        /// The other
        b: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Runs side by side: values, configurations, benchmarks
    #[command(
        after_help = "Each value three times: the last, the best, and the mean of the last tenth of the steps.\nExamples:\n  demask runs compare first second latest\n  demask runs compare first second --metric 'eval/*' --json"
    )]
    Compare(RunsCompare),
    /// Change what a run is called
    #[command(
        after_help = "Examples:\n  demask runs edit latest --name baseline --tag paper\n  demask runs edit baseline --untag paper --note 'learning rate too high'\n  demask runs edit baseline --name ''"
    )]
    Edit(RunsEdit),
}

/// `demask runs compare`.
#[derive(Debug, Args)]
pub struct RunsCompare {
    /// The runs
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    pub runs: Vec<String>,
    /// Only values whose names fit, with * and ?; may be given again [default: all but rate/*]
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
    /// The run
    pub run: String,
    /// Its name from now on; '' takes it away
    #[arg(long = "name", id = "run_name", value_name = "NAME", group = "change")]
    pub run_name: Option<String>,
    /// Add a tag; may be given again
    #[arg(long = "tag", value_name = "TAG", group = "change")]
    pub tags: Vec<String>,
    /// Take a tag away; may be given again
    #[arg(long = "untag", value_name = "TAG", group = "change")]
    pub untags: Vec<String>,
    /// Its note from now on; '' takes it away
    #[arg(long, value_name = "TEXT", group = "change")]
    pub note: Option<String>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask queue`.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Those that wait, the next one first
    List(Json),
    /// Put one at another place
    Move {
        /// Its id or name, or the beginning or the end of its id
        run: String,
        /// The place, from 1
        place: NonZeroUsize,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Take one out
    Cancel {
        /// Its id or name, or the beginning or the end of its id
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
    /// Looks at a study
    #[command(subcommand)]
    pub action: Option<StudyAction>,
    /// The study
    #[arg(value_name = "FILE.toml", required = true)]
    pub file: Option<PathBuf>,
    /// Leave at once, the daemon goes on with its runs
    #[arg(long)]
    pub detach: bool,
    /// Say what would be run, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// What is done with a study.
#[derive(Debug, Subcommand)]
pub enum StudyAction {
    /// Means over the seeds with their intervals, and the differences from the first setting
    Show {
        /// The study
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Also draw it into this file, .svg or .png: each setting's mean over the seeds at each step, and its 95 % interval
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
        /// Smooth the lines: the weight of what came before, 0 to 0.999
        #[arg(long, value_name = "WEIGHT", default_value_t = 0.0, value_parser = super::values::weight, requires = "plot")]
        smooth: f64,
        /// Pixels of a value's chart
        #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "900x340", value_parser = super::values::size, requires = "plot")]
        size: demask_api::PictureSize,
        /// Write over a file that is there
        #[arg(long, requires = "plot")]
        force: bool,
        /// Output
        #[command(flatten)]
        output: Json,
    },
}
