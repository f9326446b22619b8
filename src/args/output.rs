//! The flag of commands that can report as JSON.

use clap::Args;

/// The flag of commands that can report as JSON.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}
