//! `demask query`: read-only SQL on the experiment store.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use demask_actors::home::Home;
use demask_storage::query::{self, Format as Printed};

use crate::args::store_help::{help, views};
use crate::args::{Query, QueryFormat};
use crate::terminal::print;

fn list(options: &Query) -> anyhow::Result<ExitCode> {
    if options.json || matches!(options.format, QueryFormat::Json | QueryFormat::Jsonl) {
        let all = views().map(|(view, columns)| {
            serde_json::json!({ "view": view, "columns": columns.split(' ').collect::<Vec<_>>() })
        });
        print::json(&all.collect::<Vec<_>>())?;
    } else {
        std::io::stdout().lock().write_all(help().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends this process if the query takes too long (law L10), because a query inside one of SQLite's functions cannot be
/// interrupted otherwise. The caller sets the returned flag when the query has ended, so that reading the rows may take
/// longer.
fn end_in_time() -> Arc<AtomicBool> {
    let has_ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_ended);
    std::thread::spawn(move || {
        std::thread::sleep(query::PROCESS_LIMIT);
        if seen.load(Ordering::SeqCst) {
            return;
        }
        print::note(&format!(
            "the query was cancelled: a query may run for at most {} s",
            query::PROCESS_LIMIT.as_secs()
        ));
        std::process::exit(1);
    });
    has_ended
}

/// Runs one SELECT and prints its rows; without a statement, prints the views and their columns.
///
/// # Errors
/// An error if there is no store, or if the statement is refused or not understood.
pub fn query(home: &Home, options: Query) -> anyhow::Result<ExitCode> {
    let Some(sql) = &options.sql else {
        return list(&options);
    };
    let has_ended = end_in_time();
    // Rows for the daemon are held in the daemon's memory too, so fewer are allowed.
    let largest = match options.rows {
        true => query::LARGEST_SENT,
        false => query::LARGEST_PRINTED,
    };
    let rows = query::query_alone(&home.database(), sql, options.limit, largest)?;
    has_ended.store(true, Ordering::SeqCst);
    if options.rows {
        return print::json_line(&rows).map(|()| ExitCode::SUCCESS);
    }
    let format = match options.format {
        _ if options.json => Printed::Json,
        QueryFormat::Table => Printed::Table,
        QueryFormat::Csv => Printed::Csv,
        QueryFormat::Json => Printed::Json,
        QueryFormat::Jsonl => Printed::JsonLines,
    };
    std::io::stdout()
        .lock()
        .write_all(rows.print(format).as_bytes())?;
    if rows.cut {
        print::note(&format!(
            "only the first {} rows are shown; --limit 0 prints all",
            options.limit
        ));
    }
    Ok(ExitCode::SUCCESS)
}
