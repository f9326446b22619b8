//! The arguments of the commands about runs, the daemon and the store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use demask_actors::engine::join::listen::ListenAddress;

use super::output::Json;
use super::runs::LabelFlags;

/// `demask run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A shipped profile's name (`demask profile list`) or a TOML file [default: tabletop]
    #[arg(value_name = "NAME|FILE.toml", conflicts_with = "profile")]
    pub name: Option<String>,
    /// The same as a flag
    #[arg(long, default_value = "tabletop", value_name = "NAME|FILE.toml")]
    pub profile: String,
    /// No dashboard: print where the run is, line by line, until it ends
    #[arg(long)]
    pub headless: bool,
    /// Start from random weights instead of the shipped checkpoint
    #[arg(long)]
    pub from_scratch: bool,
    /// Start from the weights of this checkpoint folder, pulled repository or run instead of the shipped one
    /// (`start_from` in a profile)
    #[arg(
        long,
        value_name = "DIR|OWNER/NAME|RUN[@STEP]",
        conflicts_with = "from_scratch"
    )]
    pub checkpoint: Option<PathBuf>,
    /// Start from the weights of another run, which is this one's parent from now on: its latest checkpoint, its best, or
    /// that of a step
    #[arg(long, value_name = "RUN[@STEP|best|latest]", conflicts_with_all = ["from_scratch", "checkpoint"])]
    pub from: Option<String>,
    /// What it is called
    #[command(flatten)]
    pub labels: LabelFlags,
    /// Leave it to the daemon, which begins it once the runs before it have ended, however they end
    #[arg(long, conflicts_with = "detach")]
    pub queue: bool,
    /// Change one value of the profile; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// So many processes on this machine train together (`engine.ranks`): the same run, bit for bit, for any number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ranks: Option<u8>,
    /// Wait for these processes to join instead of starting them (`engine.join`): `demask-engine --join FILE` by srun, torchrun
    /// or hand, on any machine, where `demask daemon start --listen ADDR --join-file FILE` is
    #[arg(long, requires = "ranks")]
    pub join: bool,
    /// With --headless: leave at once, the daemon goes on
    #[arg(long, requires = "headless")]
    pub detach: bool,
    #[command(flatten)]
    /// JSON lines instead of text, with --headless
    pub output: Json,
}

/// `demask slurm`.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// A shipped profile's name or a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    pub name: String,
    /// Machines. Over several, the ranks are divided evenly and join the daemon on the first; all must see the folder in which
    /// the job is submitted, or DEMASK_HOME
    #[arg(long, default_value_t = 1, value_name = "M", value_parser = clap::value_parser!(u16).range(1..))]
    pub nodes: u16,
    /// So many processes train together (`engine.ranks`)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub ranks: Option<u8>,
    /// GPUs that the job asks for: 1, or none
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub gpus: u16,
    /// Cores that the job asks for [default: `engine.threads`, or 1, for each rank]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub cpus: Option<u16>,
    /// Any other option of sbatch that takes a value; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub sbatch: Vec<String>,
    /// Start from random weights instead of the shipped checkpoint
    #[arg(long)]
    pub from_scratch: bool,
    /// Change one value of the profile; may be given again
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
    /// Start it in the background; an unfinished run goes on from its last checkpoint
    Start {
        /// Stay in the foreground
        #[arg(long)]
        foreground: bool,
        /// Lines of its log: for a person, or a JSON object each
        #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "DEMASK_LOG_FORMAT")]
        log_format: LogFormat,
        /// Let engines join at this address, by TLS and the join file's token; without it no port is open. A free port unless
        /// one is named
        #[arg(long, value_name = "ADDR[:PORT]", requires = "join_file")]
        listen: Option<ListenAddress>,
        /// Where the file is written by which they join: only its readers can, so keep it in a folder of your own
        #[arg(long, value_name = "FILE", requires = "listen")]
        join_file: Option<PathBuf>,
    },
    /// Finish the step, checkpoint, flush, end
    Stop,
    /// Is it up, and what is it doing?
    Status(Json),
    /// Print its log
    Logs {
        /// Last lines to print
        #[arg(long, default_value_t = 50)]
        lines: usize,
        /// Go on printing as the log grows
        #[arg(long, short)]
        follow: bool,
    },
}

/// How a log's lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level and words
    Text,
    /// One object a line: timestamp, level, fields
    Json,
}

/// `demask attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// How pictures are drawn
    #[arg(long, value_enum, default_value_t = Images::Auto)]
    pub images: Images,
}

/// How pictures are drawn in the dashboard.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Images {
    /// What the terminal can
    Auto,
    /// Half-block characters
    Halfblocks,
    /// Kitty's graphics
    Kitty,
    /// Sixel graphics
    Sixel,
    /// Not at all
    Off,
}

/// `demask ask`.
#[derive(Debug, Args)]
pub struct AskModel {
    /// The prompt
    pub prompt: String,
    /// The picture that is asked about: a PNG or JPEG file
    #[arg(long, value_name = "FILE", conflicts_with = "draw")]
    pub image: Option<PathBuf>,
    /// Draw what the prompt says
    #[arg(long)]
    pub draw: bool,
    /// Where the drawing goes
    #[arg(long, value_name = "FILE.png", requires = "draw")]
    pub output: Option<PathBuf>,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// The right answer: the verdict is said
    #[arg(long, value_name = "TEXT")]
    pub reference: Option<String>,
    /// Output
    #[command(flatten)]
    pub json: Json,
}

/// `demask set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The knob and its new value
    #[arg(value_name = "KEY=VALUE")]
    pub assignment: String,
    #[command(flatten)]
    /// Output
    pub output: Json,
}

/// `demask query`.
#[derive(Debug, Args)]
pub struct Query {
    /// For the daemon, which asks in a process of its own: one line of JSON with columns and rows
    #[arg(long, hide = true)]
    pub rows: bool,
    /// One SELECT statement; without it the views and their columns are listed
    pub sql: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = QueryFormat::Table)]
    pub format: QueryFormat,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
    /// At most this many rows; 0 means all
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
    /// One array of objects
    Json,
    /// One object a line
    Jsonl,
}
