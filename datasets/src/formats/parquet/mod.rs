//! The format `parquet`: a file, the files of a folder or of a pattern, interpreted by their columns (`columns/`).
//!
//! The conventions are the Hugging Face hub's: a picture is `struct<bytes, path>` or bytes, turns are a list of
//! structs, and the names of integer classes are in the footer.
//!
//! Rows are read column by column, a page at a time. The reader cannot seek into the middle of a page; random access
//! therefore copies each row to a spool when it is first read, and reads it again from there.
//!
//! The `parquet` crate unpacks a page without a limit and repeats values as often as a file says, so a file is read in
//! a process of its own (`process.rs`, `serving.rs`; law L9): `file.rs` and `cells.rs` are its rows there, `rows.rs` here, and
//! `idle.rs` reads single pictures. Without a registered program everything is read in this process.

mod cells;
pub(super) mod file;
pub(super) mod idle;
pub mod process;
pub(super) mod rows;
pub mod serving;

use std::path::{Path, PathBuf};

use super::columns::fields::Fields;
use super::packed::Spool;
use super::{InOrder, RandomAccess, Reader, Rows, columns, shards};
use crate::formats::row::{BadRow, Origin, ReadError, Row, RowPlace, placed};

pub(super) use cells::fields;
use file::WantedColumns;
use process::{ParquetJob, raw};
use rows::FileRows;

/// The file endings of the format.
const ENDINGS: &[&str] = &[".parquet"];

/// The reader of the format `parquet`.
#[derive(Clone, Copy, Debug)]
pub struct ParquetReader;

impl Reader for ParquetReader {
    fn name(&self) -> &'static str {
        "parquet"
    }

    fn about(&self) -> &'static str {
        "Parquet files as the hub keeps data sets: conversations, questions, captioned pictures, plain text"
    }

    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(InOrder(Parquet::open(path, origin)?)))
    }

    fn open_again(
        &self,
        path: &Path,
        origin: Origin,
        room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        let mut rows = Parquet::open(path, origin)?;
        rows.spool = Some(Spool::new(room)?);
        Ok(Some(Box::new(rows)))
    }
}

/// The rows of several files, one at a time.
struct Parquet {
    files: Vec<PathBuf>,
    /// The index of the file that is opened next.
    next: usize,
    rows: Option<FileRows>,
    /// The row of the current file that was read last, from 1.
    number: u64,
    origin: Origin,
    spool: Option<Spool>,
}

impl Parquet {
    fn open(path: &Path, origin: Origin) -> Result<Self, ReadError> {
        let mut rows = Self {
            files: shards::files(path, ENDINGS, origin.split)?,
            next: 0,
            rows: None,
            number: 0,
            origin,
            spool: None,
        };
        rows.begin()?;
        Ok(rows)
    }

    /// Opens the next file, if there is one.
    fn begin(&mut self) -> Result<(), ReadError> {
        (self.rows, self.number) = (None, 0);
        let Some(path) = self.files.get(self.next) else {
            return Ok(());
        };
        self.next += 1;
        let wanted = WantedColumns::of(&self.origin);
        let job = ParquetJob::Source {
            file: raw(path),
            named: wanted.named.clone(),
            whole: wanted.whole,
        };
        self.rows = Some(FileRows::of(path, &job, || file::open(path, &wanted))?);
        Ok(())
    }

    fn present(&self) -> (usize, PathBuf) {
        let number = self.next.saturating_sub(1);
        (number, self.files.get(number).cloned().unwrap_or_default())
    }

    fn examples(&self, fields: Fields, path: &Path, line: u64) -> Row {
        let base = path.parent().unwrap_or(Path::new("."));
        let read = columns::examples(fields, base, &self.origin, true);
        read.map(|examples| placed(examples, path, line))
            .map_err(|reason| BadRow {
                file: path.to_owned(),
                line,
                reason,
            })
    }
}

impl RandomAccess for Parquet {
    fn next_row(&mut self) -> Option<(RowPlace, Row)> {
        loop {
            // A file that cannot be opened or read on yields a bad row; reading continues with the next file.
            if self.rows.is_none() && self.next >= self.files.len() {
                return None;
            }
            let begun = match self.rows {
                Some(_) => Ok(()),
                None => self.begin(),
            };
            self.number += 1;
            let ((file, path), line) = (self.present(), self.number);
            let bad = |reason: String| {
                let file_name = path.clone();
                let bad = BadRow {
                    file: file_name,
                    line,
                    reason,
                };
                Some((RowPlace::new(file, 0, line), Err(bad)))
            };
            if let Err(error) = begun {
                return bad(error.to_string());
            }
            let fields = match self.rows.as_mut().and_then(Iterator::next) {
                Some(Ok(fields)) => fields,
                None => {
                    self.rows = None;
                    continue;
                }
                Some(Err(error)) => {
                    self.rows = None;
                    return bad(format!("the file cannot be read beyond this row: {error}"));
                }
            };
            let laid = self.spool.as_mut().map(|spool| spool.append(&fields.to_bytes()));
            return match laid.transpose() {
                Ok(at) => {
                    let place = RowPlace::new(file, at.unwrap_or(0), line);
                    Some((place, self.examples(fields, &path, line)))
                }
                Err(error) => {
                    self.rows = None;
                    bad(format!(
                        "the row cannot be written to the temporary file: {error}"
                    ))
                }
            };
        }
    }

    fn read_again(&mut self, place: RowPlace) -> Row {
        let path = self.files.get(place.file()).cloned().unwrap_or_default();
        let line = u64::from(place.line);
        let bytes = match &mut self.spool {
            Some(spool) => spool.get(place.within()).map_err(|error| error.to_string()),
            None => Err("the temporary file does not exist".to_owned()),
        };
        match bytes.and_then(|bytes| Fields::from_bytes(&bytes)) {
            Ok(fields) => self.examples(fields, &path, line),
            Err(why) => Err(BadRow {
                file: path,
                line,
                reason: format!("the row cannot be read again: {why}"),
            }),
        }
    }
}
