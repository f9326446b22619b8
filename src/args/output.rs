//! The flag of commands that only report.

use clap::Args;

/// The one flag of commands that only report.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
