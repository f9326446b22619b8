//! What can be typed after `demask eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;
use super::sampling::Model;
use super::values::count;

/// `demask eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Eval {
    /// Looks at evaluations that were made
    #[command(subcommand)]
    pub action: Option<EvalAction>,
    /// Suites, see --list, or files with a [[benchmark]]: FILE.toml for all in it, FILE.toml:SUITE for one
    #[arg(value_name = "SUITE|FILE.toml", required_unless_present = "list")]
    pub suites: Vec<String>,
    /// Name the suites and end
    #[arg(long)]
    pub list: bool,
    /// The model
    #[command(flatten)]
    pub model: Model,
    /// So many items a suite; held-out compositions among them come on top
    #[arg(long, value_parser = count)]
    pub limit: Option<usize>,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Also say what this CLIP makes of drawings: the mean CLIP score, 0 to 100
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub clip: Option<PathBuf>,
    /// Also say what this ImageReward makes of drawings, on the mean
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_reward: Option<PathBuf>,
    /// Seed of the samplers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Keep nothing in the store
    #[arg(long)]
    pub no_store: bool,
    /// Begin anew where the same evaluation was interrupted
    #[arg(long)]
    pub fresh: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// What is done with evaluations that were made.
#[derive(Debug, Subcommand)]
pub enum EvalAction {
    /// Items of an evaluation: what was asked, what came, what was right
    Show(EvalShow),
    /// Two evaluations item by item: paired difference, its interval, McNemar's test
    Compare(EvalCompare),
    /// Evaluations that were made, newest first
    History(Json),
}

/// `demask eval show`.
#[derive(Debug, Args)]
pub struct EvalShow {
    /// An evaluation's id or a run's (with @STEP or @best: at that step), the beginning or the end of it, the run's name, or the
    /// word latest
    #[arg(default_value = "latest")]
    pub evaluation: String,
    /// Only items that are not right
    #[arg(long)]
    pub wrong: bool,
    /// Only this suite
    #[arg(long)]
    pub suite: Option<String>,
    /// At most this many; 0 means all
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask eval compare`.
#[derive(Debug, Args)]
pub struct EvalCompare {
    /// One evaluation, as `show` takes it
    pub a: String,
    /// The other
    pub b: String,
    /// Also list so many items that one alone has right
    #[arg(long, default_value_t = 0)]
    pub items: usize,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
