//! The arguments of `demask score`.

use std::path::PathBuf;

use clap::Args;

/// Predictions to grade, and how the verdicts are shown.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Scorer or family of scorers: gsm8k, math, vqav2, geneval, cider, …
    #[arg(required_unless_present = "list")]
    pub scorer: Option<String>,
    /// Predictions and references as JSON lines; `-` reads standard input
    #[arg(required_unless_present = "list")]
    pub file: Option<PathBuf>,
    /// List the scorers, each with the tool and version that it follows
    #[arg(long, conflicts_with_all = ["scorer", "file", "strict"])]
    pub list: bool,
    /// Stop at the first line that cannot be scored
    #[arg(long)]
    pub strict: bool,
    /// Print one line of JSON per input line instead of a table; the aggregate goes to standard error
    #[arg(long)]
    pub json: bool,
}
