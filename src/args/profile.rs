//! The arguments of the commands about profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;
use super::values;

/// `demask profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// The profiles that come with the program
    List(Json),
    /// The whole profile, every default filled in, with a line on each key
    #[command(after_help = "Examples:\n  demask profile show tabletop\n  demask profile show my.toml --json")]
    Show {
        /// A shipped profile's name or a TOML file
        #[arg(value_name = "NAME|FILE.toml")]
        name: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Write a commented profile to begin with
    #[command(
        after_help = "Examples:\n  demask profile init --output my.toml\n  demask profile init --from tabletop-align --output align.toml"
    )]
    Init {
        /// The file to write; it must not be there. Its name is the profile's
        #[arg(long, value_name = "FILE.toml", default_value = "profile.toml")]
        output: PathBuf,
        /// The profile to begin from: a shipped one's name or a TOML file
        #[arg(long, value_name = "NAME|FILE.toml", default_value = "tabletop")]
        from: String,
    },
    /// A dry run: is it right, is its data there, do stages, sources and rewards fit together
    #[command(
        after_help = "Examples:\n  demask profile check tabletop\n  DEMASK_DATA=FOLDER demask profile check gsm8k-fashion --from-scratch\n  demask profile check my.toml --set source.0.limit=1000 --json\nExits 1 when the run would fail, 2 when the profile is wrong."
    )]
    Check(CheckArgs),
    /// Every key: JSON Schema for editors, or a table to read and grep
    #[command(
        after_help = "Examples:\n  demask profile schema > profile.schema.json\n  demask profile schema --table stage\n  demask profile schema --table | grep temperature\n  demask profile schema --markdown > profile.md"
    )]
    Schema {
        /// A line a key instead of JSON Schema; only the keys below PREFIX, if it is given
        #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "")]
        table: Option<String>,
        /// A table in Markdown instead of JSON Schema
        #[arg(long, conflicts_with = "table")]
        markdown: bool,
        /// The keys as a JSON list instead of JSON Schema
        #[arg(long, conflicts_with_all = ["table", "markdown"])]
        json: bool,
    },
}

/// A profile that is looked at and not run.
#[derive(Debug, Args)]
pub struct AssumedProfile {
    /// A shipped profile's name or a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    pub name: String,
    /// As if the run started from random weights
    #[arg(long)]
    pub from_scratch: bool,
    /// Change one value of the profile; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `demask profile check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The profile
    #[command(flatten)]
    pub profile: AssumedProfile,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The profile
    #[command(flatten)]
    pub profile: AssumedProfile,
    /// Memory of the GPU that is meant, such as 80GB or 24GiB [default: what is free here, on the processor]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub device_memory: Option<u64>,
    /// So many processes that train together: what each of them takes [default: `engine.ranks`, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub ranks: Option<u16>,
    /// What is divided over the ranks
    #[arg(long, value_enum)]
    pub shard: Option<Sharding>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// What is divided over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sharding {
    /// Moments, moving average and accumulated gradient; weights are on every rank
    State,
    /// Weights too, gathered block by block
    Weights,
}
