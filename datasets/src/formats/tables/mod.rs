//! Tables as published benchmarks have them: every row with all its columns, whatever they mean.
//!
//! | file | rows |
//! | --- | --- |
//! | `.parquet` | as the hub keeps data sets; pictures stay in the file until they are looked at (`parquet.rs`) |
//! | `.tsv` | VLMEvalKit's: pictures in base64, cells that name another row's picture, lists (`tsv.rs`) |
//! | `.csv` | with a line of names |
//! | `.jsonl`, `.json` | an object a line; or one array of objects (`json.rs`) |
//!
//! `python_list.rs` reads lists that Python wrote into a cell.

mod json;
mod parquet;
pub mod python_list;
mod tsv;

use std::path::Path;

use crate::formats::columns::fields::Fields;
use crate::formats::row::{BadRow, ReadError};

pub use json::document;

/// A row and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// The file and the line or item in it, from 1: `POPE.tsv:17`.
    pub place: String,
    /// Its columns.
    pub fields: Fields,
}

/// A row, or why it is none.
pub type Entry = Result<TableRow, BadRow>;

/// The endings of tables that are read.
pub const ENDINGS: [&str; 5] = [".parquet", ".tsv", ".csv", ".jsonl", ".json"];

/// Every row of a table.
///
/// # Errors
/// The file cannot be opened, or is of another format.
pub fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let name = path.to_string_lossy().to_lowercase();
    if name.ends_with(".parquet") {
        let rows = parquet::rows(path)?;
        return Ok(numbered(path, rows));
    }
    if name.ends_with(".tsv") || name.ends_with(".csv") {
        let sign = if name.ends_with(".tsv") { b'\t' } else { b',' };
        return tsv::read(path, sign);
    }
    json::read(path)
}

/// Rows by their numbers, from 1.
fn numbered(path: &Path, rows: impl Iterator<Item = Result<Fields, String>>) -> Vec<Entry> {
    let rows = (1..).zip(rows);
    rows.map(|(line, row)| entry(path, line, row)).collect()
}

fn entry(path: &Path, line: u64, row: Result<Fields, String>) -> Entry {
    match row {
        Ok(fields) => Ok(TableRow {
            place: format!("{}:{line}", path.display()),
            fields,
        }),
        Err(reason) => Err(BadRow {
            file: path.to_owned(),
            line,
            reason,
        }),
    }
}
