//! The arguments of the commands about runs, the daemon and the store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use demask_actors::engine::join::listen::ListenAddress;

use super::output::Json;
use super::runs::LabelFlags;

/// `demask run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of a shipped profile (`demask profile list`), or a TOML file [default: tabletop]
    #[arg(value_name = "NAME|FILE.toml", conflicts_with = "profile")]
    pub name: Option<String>,
    /// Profile, as a flag instead of an argument
    #[arg(long, default_value = "tabletop", value_name = "NAME|FILE.toml")]
    pub profile: String,
    /// Print the progress of the run line by line until it ends, instead of opening the dashboard
    #[arg(long)]
    pub headless: bool,
    /// Start from random weights instead of the shipped checkpoint
    #[arg(long)]
    pub from_scratch: bool,
    /// Start from the weights of this checkpoint folder, pulled repository or run instead of the shipped checkpoint
    /// (`start_from` in a profile)
    #[arg(
        long,
        value_name = "DIR|OWNER/NAME|RUN[@STEP]",
        conflicts_with = "from_scratch"
    )]
    pub checkpoint: Option<PathBuf>,
    /// Start from a checkpoint of another run, which is recorded as the parent of this run: its latest checkpoint, its
    /// best, or the one of a step
    #[arg(long, value_name = "RUN[@STEP|best|latest]", conflicts_with_all = ["from_scratch", "checkpoint"])]
    pub from: Option<String>,
    /// Name, tags and note
    #[command(flatten)]
    pub labels: LabelFlags,
    /// Add the run to the daemon's queue; it starts when the runs before it have ended, however they end
    #[arg(long, conflicts_with = "detach")]
    pub queue: bool,
    /// Override one value of the profile; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Train with N processes on this machine (`engine.ranks`); the run is the same bit for bit for every N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ranks: Option<u8>,
    /// Wait for these processes to join instead of starting them (`engine.join`). They are started as
    /// `demask-engine --join FILE` by srun, torchrun or hand on any machine that reaches
    /// `demask daemon start --listen ADDR --join-file FILE`
    #[arg(long, requires = "ranks")]
    pub join: bool,
    /// With --headless: return at once; the daemon continues the run
    #[arg(long, requires = "headless")]
    pub detach: bool,
    #[command(flatten)]
    /// JSON lines instead of text; no dashboard is opened then
    pub output: Json,
}

/// `demask slurm`.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// Name of a shipped profile, or a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    pub name: String,
    /// Number of nodes. On several nodes the ranks are divided evenly and join the daemon on the first one; all must
    /// see the folder in which the job is submitted, or DEMASK_HOME
    #[arg(long, default_value_t = 1, value_name = "M", value_parser = clap::value_parser!(u16).range(1..))]
    pub nodes: u16,
    /// Train with N processes (`engine.ranks`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ranks: Option<u8>,
    /// Sample with N more engines (`rollouts.samplers`), which the daemon starts on its node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub samplers: Option<u8>,
    /// GPUs that the job requests on each node: one for each rank there, and up to one more for each sampling engine.
    /// Training on several GPUs is built (NCCL), but has not been run
    #[arg(long, visible_alias = "gpus-per-node", default_value_t = 0, value_name = "N")]
    pub gpus: u16,
    /// CPU cores that the job requests [default: `engine.threads`, or 1, for each rank, and as many for
    /// each sampling engine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub cpus: Option<u16>,
    /// Any other sbatch option that takes a value; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub sbatch: Vec<String>,
    /// Start from random weights instead of the shipped checkpoint
    #[arg(long)]
    pub from_scratch: bool,
    /// Override one value of the profile; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the script instead of submitting it
    #[arg(long)]
    pub dry_run: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask daemon`.
#[derive(Debug, Subcommand)]
pub enum DaemonCommand {
    /// Start the daemon in the background; an unfinished run continues from its last checkpoint
    Start {
        /// Run in the foreground
        #[arg(long)]
        foreground: bool,
        /// Format of the log lines
        #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "DEMASK_LOG_FORMAT")]
        log_format: LogFormat,
        /// Accept engines that join at this address, over TLS and with the token of the join file. Without this option
        /// no port is open [default port: a free one]
        #[arg(long, value_name = "ADDR[:PORT]", requires = "join_file")]
        listen: Option<ListenAddress>,
        /// File to write with the address, the token and the certificate's hash. Anyone who can read it can join
        #[arg(long, value_name = "FILE", requires = "listen")]
        join_file: Option<PathBuf>,
    },
    /// Finish the current step, save a checkpoint, flush the store and end the daemon
    Stop,
    /// Show whether the daemon is running and what it is doing
    Status(Json),
    /// Print the daemon's log
    Logs {
        /// Number of lines to print, from the end
        #[arg(long, default_value_t = 50)]
        lines: usize,
        /// Keep printing as the log grows
        #[arg(long, short)]
        follow: bool,
    },
}

/// How a log's lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level and message as text
    Text,
    /// One JSON object per line: timestamp, level, fields
    Json,
}

/// `demask attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// How to draw pictures
    #[arg(long, value_enum, default_value_t = Images::Auto)]
    pub images: Images,
}

/// How pictures are drawn in the dashboard.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Images {
    /// The best way that the terminal supports
    Auto,
    /// Half-block characters
    Halfblocks,
    /// The Kitty graphics protocol
    Kitty,
    /// Sixel graphics
    Sixel,
    /// No pictures
    Off,
}

/// `demask ask`.
#[derive(Debug, Args)]
pub struct AskModel {
    /// Prompt
    pub prompt: String,
    /// Picture to ask about: a PNG or JPEG file
    #[arg(long, value_name = "FILE", conflicts_with = "draw")]
    pub image: Option<PathBuf>,
    /// Draw a picture of the prompt instead of answering it
    #[arg(long)]
    pub draw: bool,
    /// File to write the drawing to
    #[arg(long, value_name = "FILE.png", requires = "draw")]
    pub output: Option<PathBuf>,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Right answer; the verdict on the model's answer is printed
    #[arg(long, value_name = "TEXT")]
    pub reference: Option<String>,
    /// Output
    #[command(flatten)]
    pub json: Json,
}

/// `demask set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Knob and its new value
    #[arg(value_name = "KEY=VALUE")]
    pub assignment: String,
    #[command(flatten)]
    /// Output
    pub output: Json,
}

/// `demask query`.
#[derive(Debug, Args)]
pub struct Query {
    /// Internal, for queries of the daemon: print one line of JSON with columns and rows
    #[arg(long, hide = true)]
    pub rows: bool,
    /// One SELECT statement; without it, the views and their columns are listed
    pub sql: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    pub format: QueryFormat,
    /// Same as --format json
    #[arg(long)]
    pub json: bool,
    /// Largest number of rows to print; 0 prints all
    #[arg(long, default_value_t = 1000)]
    pub limit: u64,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    /// Aligned columns
    Table,
    /// Comma-separated values
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object per line
    Jsonl,
}
