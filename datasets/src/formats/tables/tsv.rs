//! Delimited tables with a header line: VLMEvalKit's `.tsv` files and `.csv` files.
//!
//! A cell of the column `image` is one of three: a picture in base64; the `index` of the row whose picture it shares
//! (at most 64 characters); a Python list of either. Empty cells are left out, so that a missing option is no option.
//! Source: VLMEvalKit `image_base.py`, `docs/en/Development.md`.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::python_list::strings;
use super::{Entry, add, entry, open};
use crate::formats::columns::encoded::Encoded;
use crate::formats::columns::fields::Fields;
use crate::formats::row::ReadError;

/// The column of pictures.
const IMAGE: &str = "image";
/// The longest cell that refers to another row; a longer one is a picture itself.
const LONGEST_NAME: usize = 64;

/// The most bytes of a file, whose pictures are held in memory (law L9).
const LARGEST: u64 = 16 << 30;
/// The most bytes of a row. Published rows have pictures of several MB.
const LONGEST: usize = 64 << 20;

/// Reads every row.
///
/// # Errors
/// An error if the file cannot be read, is too large, has too long a row, or has no header line.
pub(super) fn read(path: &Path, separator: u8) -> Result<Vec<Entry>, ReadError> {
    let left = Cell::new(LONGEST);
    let file = RowMeter {
        file: open(path, LARGEST)?,
        left: &left,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .flexible(true)
        .from_reader(file);
    let broken = |error: csv::Error| ReadError::format(path, format!("a table was expected: {error}"));
    let mut values = 0;
    let names = reader.headers().map_err(broken)?;
    add(path, &mut values, names.len())?;
    let names: Vec<String> = names
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    if names.iter().all(String::is_empty) {
        return Err(ReadError::format(path, "a line of column names was expected"));
    }
    left.set(LONGEST);
    let mut rows = Vec::new();
    for record in reader.records() {
        left.set(LONGEST);
        match record {
            Err(error) if error.is_io_error() => return Err(broken(error)),
            record => {
                add(
                    path,
                    &mut values,
                    record.as_ref().map_or(0, csv::StringRecord::len),
                )?;
                rows.push(row(&names, record));
            }
        }
    }
    let mut pictures = CellPictures::of(&rows);
    Ok((1..)
        .zip(rows)
        .map(|(line, row)| entry(path, line, row.and_then(|row| pictures.laid_in(row))))
        .collect())
}

/// A file that counts the bytes of a row, because the reader of tables holds a row of any length.
struct RowMeter<'a> {
    file: File,
    /// The bytes that the present row may still have.
    left: &'a Cell<usize>,
}

impl Read for RowMeter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(count) else {
            let message = format!("a row has more than {} MiB", LONGEST >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        self.left.set(left);
        Ok(count)
    }
}

/// A row before its pictures are resolved.
struct TsvRow {
    values: Map<String, Value>,
    /// The cell `image`.
    image: Option<Arc<str>>,
}

fn row(names: &[String], record: Result<csv::StringRecord, csv::Error>) -> Result<TsvRow, String> {
    let record = record.map_err(|error| error.to_string())?;
    if record.len() != names.len() {
        return Err(format!(
            "found {} cells, but the first line names {} columns",
            record.len(),
            names.len()
        ));
    }
    let mut row = TsvRow {
        values: Map::new(),
        image: None,
    };
    for (name, cell) in names.iter().zip(&record).filter(|(_, cell)| !cell.is_empty()) {
        if name == IMAGE {
            row.image = Some(cell.into());
        } else {
            row.values.insert(name.clone(), cell.into());
        }
    }
    Ok(row)
}

/// The pictures by their cells; each is decoded from base64 once, however many rows share it.
struct CellPictures {
    by_index: HashMap<String, Arc<str>>,
    unpacked: HashMap<Arc<str>, Encoded>,
}

impl CellPictures {
    fn of(rows: &[Result<TsvRow, String>]) -> Self {
        let named = rows.iter().flatten().filter_map(|row| {
            let cell = row.image.as_ref().filter(|cell| cell.len() > LONGEST_NAME)?;
            Some((row.values.get("index")?.as_str()?.to_owned(), Arc::clone(cell)))
        });
        Self {
            by_index: named.collect(),
            unpacked: HashMap::new(),
        }
    }

    /// Returns the row's fields with its pictures.
    fn laid_in(&mut self, row: TsvRow) -> Result<Fields, String> {
        let mut fields = Fields {
            values: row.values,
            ..Fields::default()
        };
        let Some(cell) = row.image else {
            return Ok(fields);
        };
        let cells = match strings(&cell) {
            Some(several) => several.into_iter().map(Arc::from).collect(),
            None => vec![cell],
        };
        let pictures: Result<Vec<Encoded>, String> =
            cells.into_iter().map(|cell| self.picture(cell)).collect();
        fields.pictures.insert(IMAGE.to_owned(), pictures?);
        Ok(fields)
    }

    fn picture(&mut self, cell: Arc<str>) -> Result<Encoded, String> {
        let cell = match cell.len() > LONGEST_NAME {
            true => cell,
            false => match self.by_index.get(cell.trim()) {
                Some(other) => Arc::clone(other),
                None => {
                    return Err(format!(
                        "`image` refers to row {cell}, which has no picture itself"
                    ));
                }
            },
        };
        if let Some(known) = self.unpacked.get(&cell) {
            return Ok(known.clone());
        }
        let cell_text = cell.trim();
        let bytes = STANDARD
            .decode(cell_text)
            .map_err(|error| format!("`image`: a picture in base64 was expected: {error}"))?;
        let picture = Encoded::Bytes(bytes.into());
        self.unpacked.insert(cell, picture.clone());
        Ok(picture)
    }
}
