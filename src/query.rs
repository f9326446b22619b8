//! `demask query`: read-only SQL on the experiment store.

use std::io::Write as _;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::query::{self, Format as Printed};

use crate::args::{Format, Query};
use crate::print;

/// Runs one SELECT and prints its rows.
///
/// # Errors
/// No store, a statement that is refused or not understood.
pub fn query(home: &Home, options: Query) -> anyhow::Result<ExitCode> {
    let rows = query::query(&home.database(), &options.sql, options.limit)?;
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
