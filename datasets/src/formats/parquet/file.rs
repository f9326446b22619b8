//! The rows of one file, read in this process: one that is there for it (`process.rs`), or the caller's where no program
//! is registered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use demask_api::bounded_file;
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use serde_json::Value;

use super::cells::fields;
use crate::formats::columns;
use crate::formats::columns::fields::Fields;
use crate::formats::columns::survived::survived;
use crate::formats::row::{KeptColumns, Origin, ReadError};

/// The rows of a file, up to the first that cannot be read.
pub(in crate::formats) type RowsHere = Box<dyn Iterator<Item = Result<Fields, String>> + Send>;

/// The most rows whose cells are held at a time. The cells of a column of pictures take megabytes each.
pub(in crate::formats) const ROWS_AHEAD: usize = 8;

/// The columns that are read of a source's file, beside those that readers know.
pub(super) struct WantedColumns {
    /// The columns of these names.
    pub(super) named: Vec<String>,
    /// All columns.
    pub(super) whole: bool,
}

impl WantedColumns {
    /// Returns the columns that the source names, and those that it keeps.
    pub(super) fn of(origin: &Origin) -> Self {
        let mut named: Vec<String> = origin.columns.values().cloned().collect();
        if let KeptColumns::Named(kept) = &origin.keep {
            named.extend(kept.iter().cloned());
        }
        Self {
            named,
            whole: origin.keep == KeptColumns::Whole,
        }
    }

    /// Projects a schema to the wanted columns.
    fn projected(&self, path: &Path, schema: &Type) -> Result<Type, ReadError> {
        let known = |column: &&Arc<Type>| {
            let name = column.name();
            self.whole || columns::KNOWN.contains(&name) || self.named.iter().any(|named| named == name)
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
}

/// Opens the wanted columns of a source's file.
///
/// # Errors
/// An error if the file cannot be opened, is not Parquet or has no such column.
pub(super) fn open(path: &Path, wanted: &WantedColumns) -> Result<RowsHere, ReadError> {
    let file = bounded_file::open(path).map_err(|error| ReadError::io(path, error))?;
    let broken =
        |error: ParquetError| ReadError::format(path, format!("a Parquet file was expected: {error}"));
    let begun = survived(|| {
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let about = reader.metadata().file_metadata();
        let classes = classes(about);
        let wanted = wanted.projected(path, about.schema())?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(wanted));
        Ok::<_, ReadError>((classes, rows.map_err(broken)?.with_batch_size(ROWS_AHEAD)))
    });
    let (classes, mut rows) = begun.map_err(|why| ReadError::format(path, why))??;
    Ok(up_to_an_error(move || {
        let row = rows.next()?;
        Some(
            row.map(|row| fields(row.into_columns(), &classes))
                .map_err(|error| error.to_string()),
        )
    }))
}

/// Iterates over rows up to the first that cannot be read. A panic of the `parquet` crate is such a row.
pub(in crate::formats) fn up_to_an_error(
    mut next: impl FnMut() -> Option<Result<Fields, String>> + Send + 'static,
) -> RowsHere {
    let mut is_open = true;
    Box::new(std::iter::from_fn(move || {
        if !is_open {
            return None;
        }
        let row = survived(&mut next)
            .transpose()
            .map(|read| read.and_then(|row| row));
        is_open = matches!(row, Some(Ok(_)));
        row
    }))
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
