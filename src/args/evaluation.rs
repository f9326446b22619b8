//! The arguments of `demask eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use demask_api::limits;

use super::output::Json;
use super::sampling::ModelArgs;
use super::values::{part, within};

/// `demask eval`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct EvalArgs {
    /// An action on earlier evaluations
    #[command(subcommand)]
    pub action: Option<EvalAction>,
    /// Suites to evaluate (see --list): NAME:PROTOCOL, or NAME for its first protocol; or a file with [[benchmark]]
    /// tables: FILE.toml for all of them, FILE.toml:SUITE for one; or a file of rows (.jsonl, .parquet, .tar, a
    /// folder), each with a prompt, the right answer and, for a question about a picture, the picture; with --embedded
    /// also `all`
    #[arg(value_name = "SUITE|FILE", required_unless_present = "list")]
    pub suites: Vec<String>,
    /// Scorer for the rows of a file: exact, number, choice, f1, an official scorer, or the name of a reward [default:
    /// exact]
    #[arg(long, value_name = "SCORER")]
    pub scorer: Option<String>,
    /// Write every item to this file, as one line of JSON: prompt, output, answer, right answer, credit
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "no_store")]
    pub items: Option<PathBuf>,
    /// Overwrite an existing file of items
    #[arg(long, requires = "items")]
    pub force: bool,
    /// List the suites and exit
    #[arg(long)]
    pub list: bool,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Number of items per suite; items of held-out compositions are added to that number
    #[arg(long, value_parser = within(limits::ITEMS))]
    pub limit: Option<usize>,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Also score drawings with this CLIP model: the mean CLIP score, 0 to 100
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub clip: Option<PathBuf>,
    /// Also score drawings with this ImageReward model: the mean reward
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_reward: Option<PathBuf>,
    /// Judges of suites that cannot judge by themselves
    #[command(flatten)]
    pub judging: Judging,
    /// Run the few made-up rows of a published benchmark that come with the program, as a test of the whole procedure;
    /// the results measure nothing
    #[arg(long)]
    pub embedded: bool,
    /// How log-likelihoods are computed: from LLaDA's Monte Carlo draws, from a fifth of the draws with the same value
    /// and error, or by the chain rule from left to right, which gives a different number
    #[arg(long, value_enum, default_value_t = Likelihood::Published)]
    pub likelihood: Likelihood,
    /// Number of samples of each item, each with its own noise: results are means over the samples, and `pass@N` is the
    /// share of items that at least one sample has right
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(limits::ITEM_SAMPLES), conflicts_with = "shards")]
    pub samples: usize,
    /// Evaluate only the K-th of N parts of the items, for several machines; `demask eval merge` combines the parts
    #[arg(long, value_name = "K/N", value_parser = part)]
    pub shards: Option<(usize, usize)>,
    /// Seed of the samplers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Do not write the evaluation to the store
    #[arg(long)]
    pub no_store: bool,
    /// Start anew instead of continuing an interrupted evaluation or reusing stored items
    #[arg(long)]
    pub fresh: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// An action on earlier evaluations.
#[derive(Debug, Subcommand)]
pub enum EvalAction {
    /// Show the items of an evaluation: prompt, output, right answer
    Show(EvalShow),
    /// Compare two evaluations item by item: paired difference, its interval, McNemar's test
    Compare(EvalCompare),
    /// List earlier evaluations, newest first
    History(Json),
    /// Combine the parts of an evaluation that was run with --shards
    Merge(EvalMerge),
}

/// How log-likelihoods are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Likelihood {
    /// LLaDA's Monte Carlo draws, as many as the protocol specifies
    Published,
    /// The same value and standard error from a fifth of the draws
    Reduced,
    /// The chain rule from left to right, which gives a different number
    Chain,
}

/// The judges outside the program.
#[derive(Debug, Args)]
pub struct Judging {
    /// OpenAI-compatible address of the judge model, up to /v1 (WISE, MMBench)
    #[arg(long, value_name = "URL", requires = "judge_model")]
    pub judge: Option<String>,
    /// Name of the judge model
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub judge_model: Option<String>,
    /// Environment variable that holds the API key of the judge
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    pub judge_key: String,
    /// Concurrent requests to the judge
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub judge_concurrency: u16,
    /// Largest number of tokens to pay for at the judge
    #[arg(long, value_name = "TOKENS", default_value_t = 1_000_000)]
    pub judge_tokens: u64,
    /// Program of the object detector (GenEval): for each line {"image", "path", "classes"} that it reads, it writes a
    /// line {"detections", "colors"}
    #[arg(long, value_name = "COMMAND")]
    pub detector: Option<String>,
    /// Recorded detections in these drawings, in place of a detector: one {"image", "detections", "colors"} per line
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "detector")]
    pub detections: Option<PathBuf>,
}

/// `demask eval merge`.
#[derive(Debug, Args)]
pub struct EvalMerge {
    /// Ids of the parts, or the beginning or end of each id
    #[arg(required = true, num_args = 2..)]
    pub evaluations: Vec<String>,
    /// Files of own benchmarks, or of rows, that were evaluated
    #[arg(long, value_name = "FILE")]
    pub suites: Vec<String>,
    /// Scorer that was used for the rows of a file
    #[arg(long, value_name = "SCORER")]
    pub scorer: Option<String>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask eval show`.
#[derive(Debug, Args)]
pub struct EvalShow {
    /// Id of an evaluation or of a run (with @STEP or @best: the run's evaluation at that step), the beginning or end
    /// of an id, the name of a run, or `latest`
    #[arg(default_value = "latest")]
    pub evaluation: String,
    /// Show only items whose answer is wrong
    #[arg(long)]
    pub wrong: bool,
    /// Show only items of this suite
    #[arg(long)]
    pub suite: Option<String>,
    /// Largest number of items to show; 0 shows all
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask eval compare`.
#[derive(Debug, Args)]
pub struct EvalCompare {
    /// First evaluation, named as for `show`
    pub a: String,
    /// Second evaluation
    pub b: String,
    /// Also list this many items that only one of the two has right
    #[arg(long, default_value_t = 0)]
    pub items: usize,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
