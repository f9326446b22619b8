//! The format `parquet`: a file, the files of a folder or of a pattern, interpreted by their columns (`columns/`).
//!
//! The conventions are the Hugging Face hub's: a picture is `struct<bytes, path>` or bytes, turns are a list of
//! structs, and the names of integer classes are in the footer.
//!
//! Rows are read column by column, a page at a time. The reader cannot seek into the middle of a page; random access
//! therefore copies each row to a spool when it is first read, and reads it again from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::bounded_file;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::columns::encoded::Encoded;
use super::columns::fields::Fields;
use super::columns::survived::survived;
use super::packed::Spool;
use super::{InOrder, RandomAccess, Reader, Rows, columns, shards};
use crate::formats::row::{BadRow, KeptColumns, Origin, ReadError, Row, RowPlace, placed};

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
    rows: Option<RowIter<'static>>,
    /// The row of the current file that was read last, from 1.
    number: u64,
    /// The class names of the current file, by column.
    classes: BTreeMap<String, Vec<String>>,
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
            classes: BTreeMap::new(),
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
        let file = bounded_file::open(path).map_err(|error| ReadError::io(path, error))?;
        let broken = |error: parquet::errors::ParquetError| {
            ReadError::format(path, format!("a Parquet file was expected: {error}"))
        };
        let begun = survived(|| {
            let reader = SerializedFileReader::new(file).map_err(broken)?;
            let about = reader.metadata().file_metadata();
            let classes = classes(about);
            let wanted = self.wanted(path, about.schema())?;
            let rows = RowIter::from_file_into(Box::new(reader)).project(Some(wanted));
            Ok::<_, ReadError>((classes, rows.map_err(broken)?))
        });
        let (classes, rows) = begun.map_err(|why| ReadError::format(path, why))??;
        (self.classes, self.rows) = (classes, Some(rows));
        Ok(())
    }

    /// Projects the schema to the columns that readers know, under the source's names, and those that the source keeps.
    fn wanted(&self, path: &Path, schema: &Type) -> Result<Type, ReadError> {
        let own = |name: &str| self.origin.columns.values().any(|own| own == name);
        let kept = |name: &str| match &self.origin.keep {
            KeptColumns::Nothing => false,
            KeptColumns::Named(names) => names.iter().any(|kept| kept == name),
            KeptColumns::Whole => true,
        };
        let known = |column: &&Arc<Type>| {
            let name = column.name();
            columns::KNOWN.contains(&name) || own(name) || kept(name)
        };
        let kept: Vec<Arc<Type>> = schema.get_fields().iter().filter(known).cloned().collect();
        if kept.is_empty() {
            let found: Vec<&str> = schema.get_fields().iter().map(|column| column.name()).collect();
            let (found, known) = (found.join(", "), columns::KNOWN.join(", "));
            let message =
                format!("one of the columns {known} was expected ([source.columns] renames), found {found}");
            return Err(ReadError::format(path, message));
        }
        let root = Type::group_type_builder(schema.name()).with_fields(kept).build();
        root.map_err(|error| ReadError::format(path, error.to_string()))
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
            let (rows, classes) = (&mut self.rows, &self.classes);
            let read = survived(|| {
                let row = rows.as_mut().and_then(Iterator::next)?;
                let fields = row.map(|row| fields(row.into_columns(), classes));
                Some(fields.map_err(|error| error.to_string()))
            });
            let fields = match read.transpose().map(|read| read.and_then(|row| row)) {
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

/// Converts a row to fields. Pictures are kept apart, nulls are left out, class numbers become class names.
pub(super) fn fields(row: Vec<(String, Field)>, classes: &BTreeMap<String, Vec<String>>) -> Fields {
    let mut fields = Fields::default();
    for (name, field) in row {
        if let Some(pictures) = pictures(&field) {
            fields.pictures.insert(name, pictures);
            continue;
        }
        let value = value(field);
        let class = classes.get(&name).zip(value.as_u64());
        let class = class.and_then(|(names, number)| names.get(usize::try_from(number).ok()?));
        match (class, value) {
            (Some(class), _) => fields.values.insert(name, Value::String(class.clone())),
            (None, Value::Null) => None,
            (None, value) => fields.values.insert(name, value),
        };
    }
    fields
}

/// Returns the pictures of a field: bytes, a struct with `bytes`, or a list of those. `None` for any other field.
fn pictures(field: &Field) -> Option<Vec<Encoded>> {
    match field {
        Field::Bytes(bytes) => Some(vec![Encoded::Bytes(bytes.data().into())]),
        Field::Group(row) => {
            let column = |wanted: &str| {
                row.get_column_iter()
                    .find(|(name, _)| *name == wanted)
                    .map(|(_, field)| field)
            };
            match (column("bytes")?, column("path")) {
                (Field::Bytes(bytes), _) => Some(vec![Encoded::Bytes(bytes.data().into())]),
                (Field::Null, Some(Field::Str(path))) => Some(vec![Encoded::File(PathBuf::from(path))]),
                _ => None,
            }
        }
        Field::ListInternal(list) if !list.elements().is_empty() => {
            let several: Option<Vec<_>> = list.elements().iter().map(pictures).collect();
            Some(several?.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// Converts a field to JSON; dates and decimals become their display text.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        Field::Bytes(value) => String::from_utf8_lossy(value.data()).into_owned().into(),
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            Value::Object(
                columns
                    .map(|(name, field)| (name, value(field)))
                    .collect::<Map<_, _>>(),
            )
        }
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => Value::String(other.to_string()),
    }
}

/// Reads the class names that the `datasets` library stores in the footer, by column.
fn classes(about: &FileMetaData) -> BTreeMap<String, Vec<String>> {
    let notes = about.key_value_metadata().into_iter().flatten();
    let note = notes
        .filter(|note| note.key == "huggingface")
        .find_map(|note| note.value.as_deref());
    let note: Value = note
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let features = note["info"]["features"].as_object().into_iter().flatten();
    let named = features.filter_map(|(column, feature)| {
        let names = feature["names"].as_array()?.iter();
        let names: Option<Vec<String>> = names.map(|name| name.as_str().map(str::to_owned)).collect();
        Some((column.clone(), names?))
    });
    named.collect()
}
