//! Read-only SQL for users: one SELECT, restricted, limited, and printed in four formats.
//!
//! `curves.rs` holds the queries of metrics over steps; `visible.rs` makes printed texts safe for a terminal.

pub mod curves;
pub mod visible;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::{self, StoreError};

/// The public views.
pub const VIEWS: [&str; 18] = [
    "v_run",
    "v_metric",
    "v_latest",
    "v_rollout",
    "v_reward",
    "v_trace",
    "v_lineage",
    "v_steer",
    "v_funnel",
    "v_eval",
    "v_item",
    "v_evaluation",
    "v_event",
    "v_checkpoint",
    "v_alert",
    "v_clean",
    "v_queue",
    "v_rank",
];
/// The columns of the views, one view a line. They are a stable interface; a test compares them with the database.
pub const COLUMNS: &str = include_str!("../schema/views.txt");
/// The most characters of a cell in a table; the other formats never truncate.
const WIDEST: usize = 72;
/// The time limit of a query. SQLite checks it between its virtual machine's instructions, so a single slow function
/// can exceed it; then only the end of the process stops it ([`PROCESS_LIMIT`]).
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The longest lifetime of a process that runs a query.
pub const PROCESS_LIMIT: Duration = Duration::from_secs(35);
/// The most bytes of a text or blob that a query may create or read (law L9).
const LONGEST_VALUE: i32 = 16 << 20;
/// The most bytes of a pattern of LIKE or GLOB, because matching time grows with a power of its number of stars.
const LONGEST_PATTERN: i32 = 1000;
/// The most bytes of a result that the daemon passes on to a client. It holds the result as values and as one line.
pub const LARGEST_SENT: usize = 32 << 20;
/// The most bytes of a result in a process with other work. The whole result is in memory and is serialised at once.
pub const LARGEST_RESULT: usize = 128 << 20;
/// The most bytes of a result in a process that only prints it.
pub const LARGEST_PRINTED: usize = 512 << 20;
/// The most bytes of memory that SQLite may use in a process of one query.
const LARGEST_HEAP: i64 = 512 << 20;

/// The result of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Column names.
    pub columns: Vec<String>,
    /// The values, row by row in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// Whether rows beyond the limit were left out.
    pub cut: bool,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// Comma-separated values.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    JsonLines,
}

/// Runs one SELECT on the store at a path; a `limit` of 0 means all rows.
///
/// # Errors
/// An error if there is no store, if the statement is not a single SELECT, or if SQLite rejects it; the message lists
/// the views.
pub fn query(path: &Path, sql: &str, limit: u64) -> Result<Rows, StoreError> {
    run(&store::open_read_only(path)?, sql, limit)
}

/// Runs one SELECT like [`query`], in a process that does nothing else. SQLite's memory is limited too, and the result
/// may have `largest` bytes.
///
/// # Errors
/// Those of [`query`].
pub fn query_alone(path: &Path, sql: &str, limit: u64, largest: usize) -> Result<Rows, StoreError> {
    let connection = store::open_read_only(path)?;
    connection.pragma_update(None, "hard_heap_limit", LARGEST_HEAP)?;
    bounded(&connection, sql, limit, largest)
}

/// Runs one SELECT like [`query`], on an open connection, which stays restricted afterwards.
///
/// # Errors
/// Those of [`query`].
pub fn run(connection: &Connection, sql: &str, limit: u64) -> Result<Rows, StoreError> {
    bounded(connection, sql, limit, LARGEST_RESULT)
}

fn bounded(connection: &Connection, sql: &str, limit: u64, largest: usize) -> Result<Rows, StoreError> {
    guard(connection)?;
    let mut statement = connection.prepare(sql).map_err(|error| explain(&error))?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(StoreError::Query(
            "a query must be a single SELECT statement, because the store is read-only here".into(),
        ));
    }
    let columns: Vec<String> = statement.column_names().iter().map(ToString::to_string).collect();
    // A printed row has the names too, or blanks as wide as they are.
    let costs: Vec<usize> = columns
        .iter()
        .map(|name| size_of::<Value>() + name.len())
        .collect();
    let mut found = statement.query([]).map_err(|error| explain(&error))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(|error| explain(&error))? {
        if limit > 0 && rows.len() as u64 == limit {
            return Ok(Rows {
                columns,
                rows,
                cut: true,
            });
        }
        let mut cells = Vec::with_capacity(columns.len());
        for (at, cost) in costs.iter().enumerate() {
            let cell = row.get_ref(at)?;
            bytes += cost + cell.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len);
            // Before it is copied: one row may have 2000 cells, each of the longest value.
            if bytes > largest {
                return Err(StoreError::Query(format!(
                    "the result is larger than {} MiB; ask for fewer rows or columns, or shorter ones with substr",
                    largest >> 20
                )));
            }
            cells.push(value(cell));
        }
        rows.push(cells);
    }
    Ok(Rows {
        columns,
        rows,
        cut: false,
    })
}

fn guard(connection: &Connection) -> Result<(), StoreError> {
    connection.authorizer(Some(|context: AuthContext<'_>| match context.action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => Authorization::Allow,
        _ => Authorization::Deny,
    }))?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LONGEST_PATTERN)?;
    let started = Instant::now();
    connection.progress_handler(10_000, Some(move || started.elapsed() > TIME_LIMIT))?;
    Ok(())
}

fn explain(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    let hint = if text.contains("no such table") || text.contains("no such column") {
        format!("; the views are {}", VIEWS.join(", "))
    } else if text.contains("not authorized") || text.contains("Multiple statements") {
        "; a query must be a single SELECT statement, because the store is read-only here".into()
    } else if text.contains("too big") {
        format!("; a value may have at most {} MiB", LONGEST_VALUE >> 20)
    } else if text.contains("out of memory") {
        format!("; a query may use at most {} MiB", LARGEST_HEAP >> 20)
    } else if text.contains("interrupt") {
        format!("; a query may run for at most {} s", TIME_LIMIT.as_secs())
    } else {
        String::new()
    };
    StoreError::Query(format!("{text}{hint}"))
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => format!("<{} bytes>", bytes.len()).into(),
    }
}

impl Rows {
    /// Formats the rows as text.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Csv => self.csv(),
            Format::Json => serde_json::to_string_pretty(&self.objects()).unwrap_or_default() + "\n",
            Format::JsonLines => self.objects().iter().fold(String::new(), |mut text, object| {
                writeln!(text, "{object}").ok();
                text
            }),
        }
    }

    /// Returns an object per row.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| {
            let pairs = self.columns.iter().cloned().zip(row.iter().cloned());
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        self.rows.iter().map(object).collect()
    }

    fn table(&self) -> String {
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(cell).collect())
            .collect();
        let head: Vec<String> = self.columns.iter().map(|name| visible::line(name)).collect();
        let wide = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                cells
                    .iter()
                    .map(|row| wide(&row[at]))
                    .chain([wide(&head[at])])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|at| {
                self.rows
                    .iter()
                    .all(|row| row[at].is_number() || row[at].is_null())
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&cells) {
            let line: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(at, cell)| {
                    let fill = " ".repeat(widths[at].saturating_sub(wide(cell)));
                    if numeric[at] {
                        format!("{fill}{cell}")
                    } else {
                        format!("{cell}{fill}")
                    }
                })
                .collect();
            writeln!(text, "{}", line.join("  ").trim_end()).ok();
        }
        text
    }

    fn csv(&self) -> String {
        let quote = |text: String| {
            if text.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text
            }
        };
        let mut text = String::new();
        let head: Vec<String> = self.columns.iter().cloned().map(quote).collect();
        writeln!(text, "{}", head.join(",")).ok();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|value| quote(plain(value))).collect();
            writeln!(text, "{}", cells.join(",")).ok();
        }
        text
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Formats a table's cell: one line without control characters (law L9), numbers with five decimals, limited width.
fn cell(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(0.0);
            if number == 0.0 || (1e-3..1e6).contains(&number.abs()) {
                format!("{number:.5}")
            } else {
                format!("{number:.4e}")
            }
        }
        other => shorten(visible::line(&plain(other))),
    }
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(WIDEST) {
        None => text,
        Some(_) => text.chars().take(WIDEST - 1).chain(['…']).collect(),
    }
}
