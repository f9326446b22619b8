//! The arguments of `demask eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;
use super::sampling::ModelArgs;
use super::values::count;

/// Samples of an item, at most.
const MOST_SAMPLES: usize = 1024;

/// `demask eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    /// Looks at evaluations that were made
    #[command(subcommand)]
    pub action: Option<EvalAction>,
    /// Suites, see --list: NAME:PROTOCOL, or NAME for its first protocol; or files with a [[benchmark]]: FILE.toml for all in it,
    /// FILE.toml:SUITE for one; or a file of rows (.jsonl, .parquet, .tar, a folder), each with a prompt and its right answer, and a
    /// picture where it is about one; with --embedded also `all`
    #[arg(value_name = "SUITE|FILE", required_unless_present = "list")]
    pub suites: Vec<String>,
    /// How the rows of a file are scored: exact (where nothing is said), number, choice, f1, an official scorer, a reward's name
    #[arg(long, value_name = "SCORER")]
    pub scorer: Option<String>,
    /// Write every item to this file, a line of JSON each: prompt, output, answer, right answer, credit
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "no_store")]
    pub items: Option<PathBuf>,
    /// Write over a file of items that is there
    #[arg(long, requires = "items")]
    pub force: bool,
    /// Name the suites and end
    #[arg(long)]
    pub list: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
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
    /// Who judges what a suite cannot by itself
    #[command(flatten)]
    pub judging: Judging,
    /// Ask the few made-up rows of a published benchmark that the program brings, to try its whole way; nothing is measured
    #[arg(long)]
    pub embedded: bool,
    /// How log-likelihoods are worked out: LLaDA's draws; the same value and error by a fifth of them; or the chain rule from left
    /// to right, which is another number
    #[arg(long, value_enum, default_value_t = Likelihood::Published)]
    pub likelihood: Likelihood,
    /// Samples of each item, each with noise of its own: figures are their mean, and `pass@N` the share of items that one of them
    /// has right
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = samples, conflicts_with = "shards")]
    pub samples: usize,
    /// Only the k-th of n parts of the items, for several machines; `demask eval merge` puts them together
    #[arg(long, value_name = "K/N", value_parser = part)]
    pub shards: Option<(usize, usize)>,
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
    /// The parts of an evaluation that was made with --shards, as one
    Merge(EvalMerge),
}

/// How log-likelihoods are worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Likelihood {
    /// LLaDA's draws, as many as the protocol says
    Published,
    /// The same value and standard error by a fifth of the draws
    Reduced,
    /// The chain rule from left to right
    Chain,
}

/// The judges that are no part of the program.
#[derive(Debug, Args)]
pub struct Judging {
    /// The judge model's OpenAI-compatible address, up to /v1 (WISE)
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub judge: Option<String>,
    /// The judge model's name
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_model: Option<String>,
    /// The environment variable that holds the judge's key
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    pub judge_key: String,
    /// Questions to the judge at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub judge_concurrency: u16,
    /// Tokens that the judge may be paid for
    #[arg(long, value_name = "TOKENS", default_value_t = 1_000_000)]
    pub judge_tokens: u64,
    /// The detector's program (GenEval): it reads {"image", "path", "classes"} a line and answers {"detections", "colors"} a line
    #[arg(long, value_name = "COMMAND")]
    pub detector: Option<String>,
    /// What a detector said of these drawings before: {"image", "detections", "colors"} a line
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "detector")]
    pub detections: Option<PathBuf>,
}

/// `demask eval merge`.
#[derive(Debug, Args)]
pub struct EvalMerge {
    /// The parts' ids, or the beginning or the end of each
    #[arg(required = true, num_args = 2..)]
    pub evaluations: Vec<String>,
    /// Files of benchmarks of your own, or of rows, that were evaluated
    #[arg(long, value_name = "FILE")]
    pub suites: Vec<String>,
    /// How the rows of a file were scored
    #[arg(long, value_name = "SCORER")]
    pub scorer: Option<String>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// A number of samples.
fn samples(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=MOST_SAMPLES).contains(&count) => Ok(count),
        _ => Err(format!("expected a number from 1 to {MOST_SAMPLES}")),
    }
}

/// Parses a part `K/N` of the items.
fn part(text: &str) -> Result<(usize, usize), String> {
    let numbers = text
        .split_once('/')
        .and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match numbers {
        Some((part, parts)) if (1..=parts).contains(&part) => Ok((part, parts)),
        _ => Err("expected K/N, the K-th of N parts, such as 1/4".to_owned()),
    }
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
