//! `demask query`: read-only SQL on the experiment store.

use std::io::Write as _;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::query::{self, COLUMNS, Format as Printed};

use crate::args::{Format, Query};
use crate::print;

/// Three questions that people ask.
const EXAMPLES: [&str; 3] = [
    "SELECT name, step, value FROM v_latest",
    "SELECT step, value FROM v_metric WHERE name = 'train/loss' ORDER BY step DESC LIMIT 20",
    "SELECT suite, step, value, low, high FROM v_eval ORDER BY at_us DESC",
];

/// What can be asked: examples, and the views with their columns.
pub fn help() -> String {
    let examples = EXAMPLES.map(|sql| format!("  demask query \"{sql}\"\n")).concat();
    let views = views().map(|(view, columns)| format!("  {view:13} {columns}\n"));
    format!(
        "Examples:\n{examples}\nViews and their columns:\n{}",
        views.collect::<String>()
    )
}

/// Each view and its columns.
fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
    COLUMNS.lines().filter_map(|line| line.split_once(": "))
}

fn list(options: &Query) -> anyhow::Result<ExitCode> {
    if options.json || matches!(options.format, Format::Json | Format::Jsonl) {
        let all = views().map(|(view, columns)| {
            serde_json::json!({ "view": view, "columns": columns.split(' ').collect::<Vec<_>>() })
        });
        print::json(&all.collect::<Vec<_>>())?;
    } else {
        std::io::stdout().lock().write_all(help().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one SELECT and prints its rows; without one, says what can be asked.
///
/// # Errors
/// No store, a statement that is refused or not understood.
pub fn query(home: &Home, options: Query) -> anyhow::Result<ExitCode> {
    let Some(sql) = &options.sql else {
        return list(&options);
    };
    let rows = query::query(&home.database(), sql, options.limit)?;
    let format = match options.format {
        _ if options.json => Printed::Json,
        Format::Table => Printed::Table,
        Format::Csv => Printed::Csv,
        Format::Json => Printed::Json,
        Format::Jsonl => Printed::JsonLines,
    };
    std::io::stdout()
        .lock()
        .write_all(rows.print(format).as_bytes())?;
    if rows.cut {
        print::note(&format!("cut at {} rows; --limit 0 prints all", options.limit));
    }
    Ok(ExitCode::SUCCESS)
}
