//! The arguments of `demask doctor`.

use clap::Args;

use super::output::Json;

/// `demask doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Move a damaged store aside, save its readable rows, and rebuild lost rows of runs from their checkpoints, with
    /// the times of the repair; nothing is deleted
    #[arg(long, conflicts_with = "profile")]
    pub repair: bool,
    /// Check whether a run of this profile has enough memory
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub profile: Option<String>,
    /// Assume that the run starts from random weights
    #[arg(long, requires = "profile")]
    pub from_scratch: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
