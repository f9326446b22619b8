//! `demask doctor --repair`: repairs a store and reports what was done.

use std::process::ExitCode;

use demask_actors::daemon::repair::{self, Repair};
use demask_actors::home::Home;

use crate::terminal::print;

/// Repairs the home's store and prints a report.
///
/// # Errors
/// An error if a daemon holds the home's lock; any error of the file system.
pub(super) fn repair(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let done = repair::repair(home)?;
    if json {
        print::json(&done)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in told(&done) {
        print::say(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn told(done: &Repair) -> Vec<String> {
    if !done.has_changes() {
        return vec![
            "there is nothing to repair: the store is intact, and every run with checkpoints has a row"
                .into(),
        ];
    }
    let mut lines = Vec::new();
    if let (Some(damage), Some(aside)) = (&done.damage, &done.aside) {
        lines.push(format!("the store was damaged: {damage}"));
        lines.push(format!("as it was, it is in {}", aside.display()));
        lines.push(format!(
            "saved: {} transactions of its log, {} rows of the damaged parts",
            done.transactions, done.rows
        ));
    }
    lines.push(format!(
        "rebuilt from checkpoints, with the times of this repair: {} runs, {} checkpoints",
        done.runs.len(),
        done.checkpoints
    ));
    lines.extend(done.runs.iter().map(|run| format!("  {run}")));
    lines
}
