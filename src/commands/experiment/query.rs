//! `demask query`: read-only SQL on the experiment store.

use std::io::Write as _;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::query::{self, Format as Printed};

use crate::args::store_help::{help, views};
use crate::args::{Format, Query};
use crate::terminal::print;

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

/// Ends this process when the query has not ended it in time (law L10): inside one of SQLite's functions nothing else can.
fn end_in_time() {
    std::thread::spawn(|| {
        std::thread::sleep(query::PROCESS_LIMIT);
        print::note(&format!(
            "the query was given up: a query may take {} s",
            query::PROCESS_LIMIT.as_secs()
        ));
        std::process::exit(1);
    });
}

/// Runs one SELECT and prints its rows; without one, says what can be asked.
///
/// # Errors
/// No store, a statement that is refused or not understood.
pub fn query(home: &Home, options: Query) -> anyhow::Result<ExitCode> {
    let Some(sql) = &options.sql else {
        return list(&options);
    };
    end_in_time();
    let rows = query::query_alone(&home.database(), sql, options.limit)?;
    if options.rows {
        return print::json_line(&rows).map(|()| ExitCode::SUCCESS);
    }
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
