//! Tables of the published benchmarks: every row with all its columns, uninterpreted.
//!
//! | file | rows |
//! | --- | --- |
//! | `.parquet` | as the hub keeps data sets; pictures stay in the file until they are needed (`parquet.rs`) |
//! | `.tsv` | VLMEvalKit's: base64 pictures, cells that refer to another row's picture, lists (`tsv.rs`) |
//! | `.csv` | with a header line |
//! | `.jsonl`, `.json` | an object a line; or one array of objects (`json.rs`) |
//!
//! `python_list.rs` parses the Python lists that some cells hold.

mod json;
pub(super) mod parquet;
pub mod python_list;
mod tsv;

use std::fs::File;
use std::path::Path;

use demask_api::bounded_file;

use crate::formats::columns::fields::Fields;
use crate::formats::row::{BadRow, ReadError};

pub use json::document;

/// A row and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// The file and the line or item number in it, from 1: `POPE.tsv:17`.
    pub place: String,
    /// The row's columns.
    pub fields: Fields,
}

/// A row, or the reason why it could not be read.
pub type Entry = Result<TableRow, BadRow>;

/// The file endings of tables.
pub const ENDINGS: [&str; 5] = [".parquet", ".tsv", ".csv", ".jsonl", ".json"];

/// The most values of a table or document, all of which are held (law L9). The largest of a published
/// benchmark, VQAv2's answers, has 10 million.
const MOST_VALUES: usize = 1 << 24;
/// What a row counts for beside its own values, because it has a place or a complaint.
const ROW: usize = 8;

/// Reads every row of a table.
///
/// # Errors
/// An error if the file cannot be opened, is too large or is of another format.
pub fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let name = path.to_string_lossy().to_lowercase();
    if name.ends_with(".parquet") {
        return parquet::read(path);
    }
    if name.ends_with(".tsv") || name.ends_with(".csv") {
        let sign = if name.ends_with(".tsv") { b'\t' } else { b',' };
        return tsv::read(path, sign);
    }
    json::read(path)
}

/// Opens a file of at most `largest` bytes.
fn open(path: &Path, largest: u64) -> Result<File, ReadError> {
    let broken = |error| ReadError::io(path, error);
    let file = bounded_file::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    match length > largest {
        true => Err(ReadError::format(
            path,
            format!("has {length} bytes, expected at most {largest}"),
        )),
        false => Ok(file),
    }
}

/// Adds a row of `more` values to those of its table.
///
/// # Errors
/// An error if the table has more than [`MOST_VALUES`] then.
fn add(path: &Path, values: &mut usize, more: usize) -> Result<(), ReadError> {
    *values += more + ROW;
    match *values > MOST_VALUES {
        true => Err(ReadError::format(
            path,
            format!(
                "a table of at most {MOST_VALUES} values was expected, where a row counts for {ROW} more"
            ),
        )),
        false => Ok(()),
    }
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
