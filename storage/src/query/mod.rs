//! Read-only SQL for a person: one SELECT, guarded, cut at a limit, printed in four formats.
//!
//! `curves.rs` is what is asked about the values of runs over their steps.

pub mod curves;

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

/// The views that a query may count on.
pub const VIEWS: [&str; 17] = [
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
];
/// The views' columns, a view a line: a promise, which a test holds against the database.
pub const COLUMNS: &str = include_str!("../schema/views.txt");
/// Most characters of a cell in a table; the other formats never cut.
const WIDEST: usize = 72;
/// How long a query may run between two rows of SQLite's own program; one function may take longer, which only the end of the
/// process ends ([`PROCESS_LIMIT`]).
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long a process that runs a query may live.
pub const PROCESS_LIMIT: Duration = Duration::from_secs(35);
/// Bytes of the longest text or blob that a query may make or read (law L9).
const LONGEST_VALUE: i32 = 16 << 20;
/// Bytes of a pattern of LIKE or GLOB, whose time grows with a power of its stars.
const LONGEST_PATTERN: i32 = 1000;
/// Bytes of all cells of a result together, beside other work: it is held there, and written for somebody else, as a whole.
pub const LARGEST_RESULT: usize = 128 << 20;
/// Bytes of all cells of a result that a process of its own prints.
pub const LARGEST_PRINTED: usize = 512 << 20;
/// Bytes that SQLite may use in a process that is there for one query.
const LARGEST_HEAP: i64 = 512 << 20;

/// A query's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Column names.
    pub columns: Vec<String>,
    /// Values.
    pub rows: Vec<Vec<Value>>,
    /// Whether rows were left out at the limit.
    pub cut: bool,
}

/// How rows are printed.
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

/// Runs one SELECT on the store at a path; `limit` 0 means all rows.
///
/// # Errors
/// No store there; anything but one SELECT; a statement that SQLite does not understand, with the views that there are.
pub fn query(path: &Path, sql: &str, limit: u64) -> Result<Rows, StoreError> {
    run(&store::open_read_only(path)?, sql, limit)
}

/// As [`query`], in a process that is there for nothing else: what SQLite may use of its memory is bounded too, and the result
/// may have as many bytes as are named.
///
/// # Errors
/// As [`query`].
pub fn query_alone(path: &Path, sql: &str, limit: u64, largest: usize) -> Result<Rows, StoreError> {
    let connection = store::open_read_only(path)?;
    connection.pragma_update(None, "hard_heap_limit", LARGEST_HEAP)?;
    bounded(&connection, sql, limit, largest)
}

/// As [`query`], on an open connection, which is guarded from now on.
///
/// # Errors
/// As [`query`].
pub fn run(connection: &Connection, sql: &str, limit: u64) -> Result<Rows, StoreError> {
    bounded(connection, sql, limit, LARGEST_RESULT)
}

fn bounded(connection: &Connection, sql: &str, limit: u64, largest: usize) -> Result<Rows, StoreError> {
    guard(connection)?;
    let mut statement = connection.prepare(sql).map_err(|error| explain(&error))?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(StoreError::Query(
            "a query is one SELECT statement; the store is read-only here".into(),
        ));
    }
    let columns: Vec<String> = statement.column_names().iter().map(ToString::to_string).collect();
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
        for at in 0..columns.len() {
            let cell = row.get_ref(at)?;
            bytes += size_of::<Value>() + cell.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len);
            cells.push(value(cell));
        }
        if bytes > largest {
            return Err(StoreError::Query(format!(
                "the result is larger than {} MiB; ask for fewer rows or columns, or shorter ones with substr",
                largest >> 20
            )));
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
        "; a query is one SELECT statement, the store is read-only here".into()
    } else if text.contains("too big") {
        format!("; a value may have {} MiB", LONGEST_VALUE >> 20)
    } else if text.contains("out of memory") {
        format!("; a query may take {} MiB", LARGEST_HEAP >> 20)
    } else if text.contains("interrupt") {
        format!("; a query may take {} s", TIME_LIMIT.as_secs())
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
    /// The rows as text.
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

    /// An object a row.
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
        let wide = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                cells
                    .iter()
                    .map(|row| wide(&row[at]))
                    .chain([wide(&self.columns[at])])
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
        for row in std::iter::once(&self.columns).chain(&cells) {
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

/// A table's cell: one line, six significant digits, not too wide.
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
        other => shorten(plain(other).replace('\n', "⏎")),
    }
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(WIDEST) {
        None => text,
        Some(_) => text.chars().take(WIDEST - 1).chain(['…']).collect(),
    }
}
