//! Tables in JSON: an object a line, or one array of objects.

use std::io::Read as _;
use std::path::Path;

use demask_api::bounded_file;
use serde_json::{Map, Value};

use super::{Entry, entry, numbered};
use crate::formats::columns::fields::{Fields, kind_of};
use crate::formats::row::ReadError;

/// The most bytes of a file that is read whole (law L9). The largest of a published benchmark, VQAv2's answers, has 0.3
/// GB.
const LARGEST: u64 = 2 << 30;

/// The mark with which some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads every row.
///
/// # Errors
/// An error if the file cannot be read, is too large, or is neither lines of objects nor an array of objects.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let text = text(path)?;
    if text.trim_start().starts_with('[') {
        return match parsed(path, &text)? {
            Value::Array(rows) => Ok(numbered(path, rows.into_iter().map(fields))),
            other => Err(ReadError::format(
                path,
                format!("an array of objects was expected, found {}", kind_of(&other)),
            )),
        };
    }
    // Empty lines are no rows, but they count where a line is named.
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let read = |line: &str| fields(serde_json::from_str(line).map_err(|error| error.to_string())?);
    Ok(lines
        .map(|(number, line)| entry(path, number, read(line)))
        .collect())
}

/// Reads a file that is one JSON value.
///
/// # Errors
/// An error if the file cannot be read, is too large, or is not JSON.
pub fn document(path: &Path) -> Result<Value, ReadError> {
    parsed(path, &text(path)?)
}

fn parsed(path: &Path, text: &str) -> Result<Value, ReadError> {
    serde_json::from_str(text).map_err(|error| ReadError::format(path, format!("JSON was expected: {error}")))
}

fn text(path: &Path) -> Result<String, ReadError> {
    let broken = |error| ReadError::io(path, error);
    let file = bounded_file::open(path).map_err(broken)?;
    let length = file.metadata().map_err(broken)?.len();
    if length > LARGEST {
        return Err(ReadError::format(
            path,
            format!("has {length} bytes, expected at most {LARGEST}"),
        ));
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text).map_err(broken)?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

fn fields(row: Value) -> Result<Fields, String> {
    let values: Map<String, Value> = match row {
        Value::Object(values) => values,
        other => return Err(format!("an object was expected, found {}", kind_of(&other))),
    };
    Ok(Fields {
        values,
        ..Fields::default()
    })
}
