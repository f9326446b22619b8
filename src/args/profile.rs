//! The arguments of the commands about profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::Json;
use super::values;

/// `demask profile`.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List the profiles that come with the program
    List(Json),
    /// Print a whole profile, with all defaults filled in and a line of explanation for each key
    #[command(after_help = "Examples:\n  demask profile show tabletop\n  demask profile show my.toml --json")]
    Show {
        /// Name of a shipped profile, or a TOML file
        #[arg(value_name = "NAME|FILE.toml")]
        name: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// Write a commented profile as a starting point
    #[command(
        after_help = "Examples:\n  demask profile init --output my.toml\n  demask profile init --from tabletop-align --output align.toml"
    )]
    Init {
        /// File to write; it must not exist. The profile is named after it
        #[arg(long, value_name = "FILE.toml", default_value = "profile.toml")]
        output: PathBuf,
        /// Profile to start from: the name of a shipped profile, or a TOML file
        #[arg(long, value_name = "NAME|FILE.toml", default_value = "tabletop")]
        from: String,
    },
    /// Check a profile without running it: its values, its data, and whether stages, sources and rewards fit together
    #[command(
        after_help = "Examples:\n  demask profile check tabletop\n  DEMASK_DATA=FOLDER demask profile check gsm8k-fashion --from-scratch\n  demask profile check my.toml --set source.0.limit=1000 --json\nExits with 1 if the run would fail, with 2 if the profile is wrong."
    )]
    Check(CheckArgs),
    /// Print every key of a profile, as JSON Schema for editors or as a table
    #[command(
        after_help = "Examples:\n  demask profile schema > profile.schema.json\n  demask profile schema --table stage\n  demask profile schema --table | grep temperature\n  demask profile schema --markdown > profile.md"
    )]
    Schema {
        /// Print one line per key instead of JSON Schema; with PREFIX, only the keys below it
        #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "")]
        table: Option<String>,
        /// Print a Markdown table instead of JSON Schema
        #[arg(long, conflicts_with = "table")]
        markdown: bool,
        /// Print the keys as a JSON list instead of JSON Schema
        #[arg(long, conflicts_with_all = ["table", "markdown"])]
        json: bool,
    },
}

/// A profile that is examined and not run.
#[derive(Debug, Args)]
pub struct AssumedProfile {
    /// Name of a shipped profile, or a TOML file
    #[arg(value_name = "NAME|FILE.toml")]
    pub name: String,
    /// Assume that the run starts from random weights
    #[arg(long)]
    pub from_scratch: bool,
    /// Override one value of the profile; may be repeated
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
    /// Plan for a GPU with this much memory, such as 80GB or 24GiB [default: plan for the CPU and the free memory of
    /// this machine]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub device_memory: Option<u64>,
    /// Plan for one of N processes that train together [default: `engine.ranks`, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub ranks: Option<u16>,
    /// What is divided among the ranks
    #[arg(long, value_enum)]
    pub shard: Option<Sharding>,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// What is divided among ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sharding {
    /// Moments, moving average and accumulated gradient; every rank has all weights
    State,
    /// The weights too, which are gathered block by block
    Weights,
}
