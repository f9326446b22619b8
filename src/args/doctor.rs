//! The arguments of `demask doctor`.

use clap::Args;

use super::output::Json;

/// `demask doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Set a damaged store aside and rebuild its runs from their checkpoints; nothing is deleted
    #[arg(long, conflicts_with = "profile")]
    pub repair: bool,
    /// Look at whether a run of this profile has the memory that it needs
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub profile: Option<String>,
    /// As if the run started from random weights
    #[arg(long, requires = "profile")]
    pub from_scratch: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
