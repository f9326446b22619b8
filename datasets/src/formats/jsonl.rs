//! JSON lines, streamed: one object a line, interpreted by its columns (`columns/`). A file may be packed (`.gz`,
//! `.zst`) or be one array of objects (`.json`). The files of a folder or pattern are read one after another.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use demask_api::{bounded_file, bounded_json, limits};
use serde_json::Value;

use super::columns::fields::Fields;
use super::json_text::{Form, Pieces, ValueText};
use super::packed::{At, Spool, is_packed};
use super::{RandomAccess, Reader, Rows, columns, packed, shards};
use crate::example::{Example, Split};
use crate::formats::row::{BadRow, Origin, ReadError, Row, RowPlace, placed};

/// The file endings of the format.
const ENDINGS: &[&str] = &[
    ".jsonl",
    ".ndjson",
    ".json",
    ".jsonl.gz",
    ".json.gz",
    ".jsonl.zst",
    ".json.zst",
    ".ndjson.gz",
    ".ndjson.zst",
];
/// Metadata files of hub data sets, which hold no rows.
const DESCRIPTIONS: [&str; 4] = [
    "dataset_infos.json",
    "dataset_info.json",
    "state.json",
    "metadata.json",
];

/// The reader of the format `jsonl`.
#[derive(Clone, Copy, Debug)]
pub struct JsonLinesReader;

impl Reader for JsonLinesReader {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn about(&self) -> &'static str {
        "JSON lines or arrays, packed or not: conversations, problems, questions, captioned pictures, instructions, plain text"
    }

    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn files(&self, path: &Path, split: Split) -> Result<Vec<PathBuf>, ReadError> {
        let mut files = shards::files(path, ENDINGS, split)?;
        files.retain(|file| {
            !file
                .file_name()
                .is_some_and(|name| DESCRIPTIONS.iter().any(|known| name == *known))
        });
        Ok(files)
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(JsonLines::open(path, origin)?))
    }

    fn open_again(
        &self,
        path: &Path,
        origin: Origin,
        room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        let mut rows = JsonLines::open(path, origin)?;
        if rows.files.iter().any(|file| is_packed(file)) {
            rows.spool = Some(Spool::new(room)?);
        }
        Ok(Some(Box::new(rows)))
    }
}

/// A file read from its beginning.
type Text = Pieces<Box<dyn BufRead + Send>>;

/// The rows of several files, one at a time.
pub struct JsonLines {
    files: Vec<PathBuf>,
    /// The index of the file that is opened next.
    next: usize,
    text: Option<Text>,
    /// The form of each file that was opened.
    forms: Vec<Form>,
    origin: Origin,
    /// The spool to which the rows of packed files are copied.
    spool: Option<Spool>,
    /// The file that was last reopened for random access, with its index.
    again: Option<(usize, File)>,
}

impl std::fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonLines")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl JsonLines {
    /// Opens a file, or the files of a folder or pattern.
    ///
    /// # Errors
    /// An error if a file cannot be opened or a folder has none.
    pub fn open(path: &Path, origin: Origin) -> Result<Self, ReadError> {
        let mut rows = Self {
            files: JsonLinesReader.files(path, origin.split)?,
            next: 0,
            text: None,
            forms: Vec::new(),
            origin,
            spool: None,
            again: None,
        };
        rows.begin()?;
        Ok(rows)
    }

    /// Opens the next file, if there is one.
    fn begin(&mut self) -> Result<(), ReadError> {
        self.text = None;
        if let Some(path) = self.files.get(self.next) {
            self.next += 1;
            self.forms.push(Form::Lines);
            self.text = Some(Pieces::new(packed::open(path)?));
        }
        Ok(())
    }

    /// Returns the index and path of the file that is being read.
    fn present(&self) -> (usize, PathBuf) {
        let number = self.next.saturating_sub(1);
        (number, self.files.get(number).cloned().unwrap_or_default())
    }

    /// Returns where a row can be read again: in its own file, or in the spool if the file is packed.
    fn place(&mut self, file: usize, path: &Path, piece: &ValueText) -> std::io::Result<RowPlace> {
        let within = match (&mut self.spool, &piece.bytes) {
            (Some(spool), Some(bytes)) if is_packed(path) => spool.append(bytes)?,
            _ => piece.at,
        };
        Ok(RowPlace::new(file, within, piece.number))
    }

    fn row(&self, path: &Path, piece: &ValueText) -> Row {
        let bad = |reason| BadRow {
            file: path.to_owned(),
            line: piece.number,
            reason,
        };
        let read = match &piece.bytes {
            None => Err("the line is longer than 64 MiB".to_owned()),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => examples(text.trim_start_matches('\u{feff}'), path, &self.origin),
                Err(error) => Err(format!("not UTF-8 text: {error}")),
            },
        };
        read.map(|examples| placed(examples, path, piece.number))
            .map_err(bad)
    }

    fn bytes_again(&mut self, place: RowPlace) -> std::io::Result<Option<Vec<u8>>> {
        let (number, path) = (
            place.file(),
            self.files.get(place.file()).cloned().unwrap_or_default(),
        );
        if is_packed(&path)
            && let Some(spool) = &mut self.spool
        {
            return spool.get(place.within()).map(Some);
        }
        let file = match self.again.take() {
            Some((open, file)) if open == number => file,
            _ => bounded_file::open(&path)?,
        };
        let at = At {
            file: file.try_clone()?,
            at: place.within(),
        };
        self.again = Some((number, file));
        let form = self.forms.get(number).copied().unwrap_or(Form::Lines);
        let piece = Pieces::within(BufReader::new(at), form).next_piece()?;
        Ok(piece.and_then(|piece| piece.bytes))
    }
}

impl Iterator for JsonLines {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.next_row().map(|(_, row)| row)
    }
}

impl RandomAccess for JsonLines {
    fn next_row(&mut self) -> Option<(RowPlace, Row)> {
        loop {
            // A file that cannot be opened or read on yields a bad row; reading continues with the next file.
            if self.text.is_none() && self.next >= self.files.len() {
                return None;
            }
            let begun = match self.text {
                Some(_) => Ok(()),
                None => self.begin(),
            };
            let (number, path) = self.present();
            let broken = |line, reason| {
                let file = path.clone();
                Some((RowPlace::new(number, 0, line), Err(BadRow { file, line, reason })))
            };
            let text = match (begun, &mut self.text) {
                (Ok(()), Some(text)) => text,
                (Ok(()), None) => continue,
                (Err(error), _) => return broken(0, error.to_string()),
            };
            match text.next_piece() {
                Ok(Some(piece)) => {
                    self.forms[number] = text.form();
                    return match self.place(number, &path, &piece) {
                        Ok(place) => Some((place, self.row(&path, &piece))),
                        Err(error) => {
                            self.text = None;
                            broken(
                                piece.number,
                                format!("the line cannot be written to the temporary file: {error}"),
                            )
                        }
                    };
                }
                Ok(None) => self.text = None,
                Err(error) => {
                    let line = text.number() + 1;
                    self.text = None;
                    return broken(line, format!("the file cannot be read beyond this line: {error}"));
                }
            }
        }
    }

    fn read_again(&mut self, place: RowPlace) -> Row {
        let path = self.files.get(place.file()).cloned().unwrap_or_default();
        let piece = self.bytes_again(place).map(|bytes| ValueText {
            at: place.within(),
            number: u64::from(place.line),
            bytes,
        });
        match piece {
            Ok(piece) => self.row(&path, &piece),
            Err(error) => Err(BadRow {
                file: path,
                line: u64::from(place.line),
                reason: format!("the row cannot be read again: {error}"),
            }),
        }
    }
}

fn examples(text: &str, path: &Path, origin: &Origin) -> Result<Vec<Example>, String> {
    bounded_json::check(text.as_bytes(), limits::MOST_ROW_VALUES)?;
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(values) = value else {
        return Err("a JSON object in braces was expected".into());
    };
    let fields = Fields {
        values,
        ..Fields::default()
    };
    columns::examples(fields, path.parent().unwrap_or(Path::new(".")), origin, false)
}
