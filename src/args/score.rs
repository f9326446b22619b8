//! The arguments of `demask score`.

use std::path::PathBuf;

use clap::Args;

/// Predictions to grade, and how the verdicts are shown.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The scorer or its family: gsm8k, math, vqav2, geneval, cider, …
    #[arg(required_unless_present = "list")]
    pub scorer: Option<String>,
    /// Predictions and references as JSON lines; - reads standard input
    #[arg(required_unless_present = "list")]
    pub file: Option<PathBuf>,
    /// Name the scorers with the tool and version that each follows
    #[arg(long, conflicts_with_all = ["scorer", "file", "strict"])]
    pub list: bool,
    /// Stop at the first line that cannot be scored
    #[arg(long)]
    pub strict: bool,
    /// Print a line of JSON for each line instead of a table; the aggregate goes to standard error
    #[arg(long)]
    pub json: bool,
}
