//! Tables in Parquet: every row with all its columns. Class numbers stay numbers. Pictures stay in the file
//! (`columns/stored_picture.rs`), so that a table of a hundred gigabytes is read by its text columns alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::bounded_file;
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::{Entry, add, entry};
use crate::formats::columns::encoded::Encoded;
use crate::formats::columns::fields::Fields;
use crate::formats::columns::stored_picture::StoredPicture;
use crate::formats::columns::survived::survived;
use crate::formats::parquet::fields;
use crate::formats::parquet::file::{ROWS_AHEAD, RowsHere, up_to_an_error};
use crate::formats::parquet::process::{ParquetJob, raw};
use crate::formats::parquet::rows::FileRows;
use crate::formats::row::ReadError;

/// The field of a picture struct that holds the file's bytes.
const BYTES: &str = "bytes";
/// The field of a picture struct that holds its path.
const PATH: &str = "path";

/// Reads every row of a file. Rows after an unreadable one are not returned.
///
/// # Errors
/// An error if the file cannot be opened, is not Parquet, or has too many values.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let file: Arc<Path> = path.into();
    let (mut rows, mut values) = (Vec::new(), 0);
    let job = ParquetJob::Table { file: raw(path) };
    for (line, row) in (1..).zip(FileRows::of(path, &job, || open(path))?) {
        add(path, &mut values, row.as_ref().map_or(0, Fields::count))?;
        let is_last = row.is_err();
        let row = row.map_err(|error| format!("the file cannot be read beyond this row: {error}"));
        let row = row.map(|mut fields| {
            // All places share one path, also those from another process.
            for picture in fields.pictures.values_mut().flatten() {
                if let Encoded::Stored(stored) = picture {
                    stored.file = Arc::clone(&file);
                }
            }
            fields
        });
        rows.push(entry(path, line, row));
        if is_last {
            break;
        }
    }
    Ok(rows)
}

/// Opens a file in this process.
///
/// # Errors
/// An error if the file cannot be opened or is not Parquet.
pub(in crate::formats) fn open(path: &Path) -> Result<RowsHere, ReadError> {
    let file = bounded_file::open(path).map_err(|error| ReadError::io(path, error))?;
    let broken =
        |error: ParquetError| ReadError::format(path, format!("a Parquet file was expected: {error}"));
    let begun = survived(|| {
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let pictures = PictureColumns::of(path, &reader);
        let schema = reader.metadata().file_metadata().schema();
        let wanted = match pictures.columns.is_empty() {
            true => None,
            false => Some(without_pictures(schema).map_err(broken)?),
        };
        let rows = RowIter::from_file_into(Box::new(reader)).project(wanted);
        Ok::<_, ReadError>((rows.map_err(broken)?.with_batch_size(ROWS_AHEAD), pictures))
    });
    let (mut rows, mut pictures) = begun.map_err(|why| ReadError::format(path, why))??;
    Ok(up_to_an_error(move || {
        let row = rows.next()?;
        Some(
            row.map(|row| pictures.laid_in(row))
                .map_err(|error| error.to_string()),
        )
    }))
}

/// The picture columns of a file: by column name, the number of the leaf column with the bytes.
struct PictureColumns {
    file: Arc<Path>,
    columns: BTreeMap<String, usize>,
    /// The number of rows of each row group.
    groups: Vec<usize>,
    /// The position of the next row.
    group: usize,
    row: usize,
}

impl PictureColumns {
    fn of(path: &Path, reader: &SerializedFileReader<File>) -> Self {
        let about = reader.metadata();
        let leaves = about.file_metadata().schema_descr().columns().iter().enumerate();
        let columns = leaves.filter_map(|(number, leaf)| {
            let parts = leaf.path().parts();
            let is_picture = parts.len() > 1 && parts.last().is_some_and(|last| last == BYTES);
            let root = about.file_metadata().schema().get_fields();
            let root = root.iter().find(|field| field.name() == parts[0])?;
            let leaves_room = is_picture && is_of_pictures(root);
            leaves_room.then(|| (parts[0].clone(), number))
        });
        Self {
            file: path.into(),
            columns: columns.collect(),
            groups: about
                .row_groups()
                .iter()
                .map(|group| usize::try_from(group.num_rows()).unwrap_or(0))
                .collect(),
            group: 0,
            row: 0,
        }
    }

    /// Returns the next row's fields, each picture as its position in the file.
    fn laid_in(&mut self, row: Row) -> Fields {
        while self.groups.get(self.group).is_some_and(|rows| self.row >= *rows) {
            (self.group, self.row) = (self.group + 1, 0);
        }
        let (pictures, others): (Vec<_>, Vec<_>) = row
            .into_columns()
            .into_iter()
            .partition(|(name, _)| self.columns.contains_key(name));
        let mut fields = fields(others, &BTreeMap::new());
        for (name, field) in pictures {
            let column = self.columns[&name];
            let each: Vec<&Field> = match &field {
                Field::ListInternal(list) => list.elements().iter().collect(),
                Field::Null => continue,
                one => vec![one],
            };
            let places = each.into_iter().enumerate();
            let stored = |(at, field): (usize, &Field)| {
                Encoded::Stored(StoredPicture {
                    file: Arc::clone(&self.file),
                    group: self.group,
                    row: self.row,
                    column,
                    at,
                    path: path_of(field).map(|path| self.file.with_file_name(path)),
                })
            };
            let stored: Vec<Encoded> = places.map(stored).collect();
            if !stored.is_empty() {
                fields.pictures.insert(name, stored);
            }
        }
        self.row += 1;
        fields
    }
}

fn path_of(field: &Field) -> Option<PathBuf> {
    let Field::Group(row) = field else { return None };
    row.get_column_iter().find_map(|(name, field)| match field {
        Field::Str(path) if name == PATH => Some(PathBuf::from(path)),
        _ => None,
    })
}

/// Whether a column is a picture, `struct<bytes, path>`, or a list of pictures.
fn is_of_pictures(column: &Type) -> bool {
    if !column.is_group() {
        return false;
    }
    let parts = column.get_fields();
    let part = |wanted: &str| parts.iter().find(|part| part.name() == wanted);
    match (part(BYTES), part(PATH)) {
        (Some(bytes), Some(_)) => {
            bytes.is_primitive() && bytes.get_physical_type() == PhysicalType::BYTE_ARRAY
        }
        _ => parts.len() == 1 && is_of_pictures(&parts[0]),
    }
}

/// Returns the schema without the bytes of pictures.
fn without_pictures(schema: &Type) -> Result<Type, ParquetError> {
    let kept: Result<Vec<Arc<Type>>, ParquetError> = schema
        .get_fields()
        .iter()
        .map(|column| match is_of_pictures(column) {
            true => Ok(Arc::new(without_bytes(column)?)),
            false => Ok(Arc::clone(column)),
        })
        .collect();
    Type::group_type_builder(schema.name()).with_fields(kept?).build()
}

fn without_bytes(column: &Type) -> Result<Type, ParquetError> {
    let parts = column.get_fields().iter();
    let kept: Result<Vec<Arc<Type>>, ParquetError> = parts
        .filter(|part| part.name() != BYTES)
        .map(|part| match part.is_group() {
            true => Ok(Arc::new(without_bytes(part)?)),
            false => Ok(Arc::clone(part)),
        })
        .collect();
    let about = column.get_basic_info();
    Type::group_type_builder(column.name())
        .with_repetition(about.repetition())
        .with_converted_type(about.converted_type())
        .with_logical_type(about.logical_type_ref().cloned())
        .with_fields(kept?)
        .build()
}
