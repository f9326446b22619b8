//! Queries of a store, through `demask query` or by reading its file.

use std::path::Path;

use demask_storage::query;
use serde_json::Value;

use crate::home::Place;

/// Returns all rows that `demask query` prints, as JSON objects.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn rows_as_json(place: &Place, sql: &str) -> Value {
    let text = printed(place, sql, "json");
    serde_json::from_str(&text).expect("JSON")
}

/// Returns all rows that `demask query` prints, as CSV with a header line.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn rows_as_csv(place: &Place, sql: &str) -> String {
    printed(place, sql, "csv")
}

/// Returns all rows of a query on the store in a home's folder, read in this process.
///
/// # Panics
/// If the query fails.
#[must_use]
pub fn rows_in(home: &Path, sql: &str) -> Vec<Vec<Value>> {
    let answer = query::query(&home.join("demask.db"), sql, 10_000);
    answer.expect("a query that is right").rows
}

fn printed(place: &Place, sql: &str, format: &str) -> String {
    let out = place.run(&["query", sql, "--format", format, "--limit", "0"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}
