//! Tables in JSON: an object a line, or one array of objects, read row by row.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _};
use std::path::Path;

use demask_api::{bounded_json, limits};
use serde_json::{Map, Value};

use super::{Entry, MOST_VALUES, add, entry, open};
use crate::formats::columns::fields::{Fields, kind_of};
use crate::formats::json_text::{Form, Pieces, ValueText};
use crate::formats::row::ReadError;

/// The most bytes of a file (law L9). The largest of a published benchmark, VQAv2's answers, has 0.3 GB.
const LARGEST: u64 = 2 << 30;

/// The mark with which some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Reads every row.
///
/// # Errors
/// An error if the file cannot be read, is too large, or is neither lines of objects nor an array of objects.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let mut text = BufReader::new(open(path, LARGEST)?);
    let form = begin(&mut text).map_err(|error| ReadError::io(path, error))?;
    let mut pieces = Pieces::within(text, form);
    let (mut rows, mut values) = (Vec::new(), 0);
    while let Some(piece) = pieces.next_piece().map_err(|error| unfinished(path, error))? {
        add(
            path,
            &mut values,
            piece.bytes.as_deref().map_or(0, bounded_json::count),
        )?;
        let row = match (form, value(&piece)) {
            (_, Ok(row)) => fields(row),
            // A line that is broken leaves the others as they are, but no element of a broken array is certain.
            (Form::Lines, Err(reason)) => Err(reason),
            (Form::Array, Err(reason)) => {
                let message = format!("JSON was expected: item {}: {reason}", piece.number);
                return Err(ReadError::format(path, message));
            }
        };
        rows.push(entry(path, piece.number, row));
    }
    Ok(rows)
}

/// Reads a file that is one JSON value.
///
/// # Errors
/// An error if the file cannot be read, is too large, or is not JSON.
pub fn document(path: &Path) -> Result<Value, ReadError> {
    let file = open(path, LARGEST)?;
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|error| ReadError::io(path, error))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    bounded_json::parse(text, MOST_VALUES)
        .map_err(|error| ReadError::format(path, format!("JSON was expected: {error}")))
}

/// Moves to the first row, and returns how the rows are separated: the first sign of an array is a bracket.
fn begin(text: &mut BufReader<File>) -> io::Result<Form> {
    skip_mark(text)?;
    let is_sign = |byte: &io::Result<u8>| !byte.as_ref().is_ok_and(u8::is_ascii_whitespace);
    if text.by_ref().bytes().find(is_sign).transpose()? == Some(b'[') {
        return Ok(Form::Array);
    }
    // Empty lines are no rows, but they count where a line is named.
    text.rewind()?;
    skip_mark(text)?;
    Ok(Form::Lines)
}

fn skip_mark(text: &mut BufReader<File>) -> io::Result<()> {
    if text.fill_buf()?.starts_with(BYTE_ORDER_MARK.as_bytes()) {
        text.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

/// The error of a text that cannot be read on, or of an array that does not end where it should.
fn unfinished(path: &Path, error: io::Error) -> ReadError {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            ReadError::format(path, format!("JSON was expected: {error}"))
        }
        _ => ReadError::io(path, error),
    }
}

fn value(piece: &ValueText) -> Result<Value, String> {
    let text = piece.bytes.as_deref().ok_or("the row is longer than 64 MiB")?;
    bounded_json::check(text, limits::MOST_ROW_VALUES)?;
    serde_json::from_slice(text).map_err(|error| error.to_string())
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
