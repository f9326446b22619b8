//! A picture that stays in its Parquet file until it is needed, so that a large table is read without its pictures.
//!
//! Each thread keeps one open column reader, in a process of its own if a program is registered
//! (`parquet/idle.rs`). Pictures requested in the order of their rows are therefore read in one pass, a page at a time.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::bounded_file;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::formats::columns::survived::survived;
use crate::formats::parquet::idle;

/// The position of a picture in a Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredPicture {
    /// The file.
    pub file: Arc<Path>,
    /// The row group.
    pub group: usize,
    /// The row within the row group.
    pub row: usize,
    /// The number of the leaf column with the bytes.
    pub column: usize,
    /// The picture's position among those of the row.
    pub at: usize,
    /// The picture file that is used where the bytes are null.
    pub path: Option<PathBuf>,
}

/// A place as numbers and bytes, because a path need not be UTF-8: group, row, column and position, file, path.
type PlainPlace = ([usize; 4], Vec<u8>, Option<Vec<u8>>);

thread_local! {
    static PLACE: RefCell<Option<StoredPictures>> = const { RefCell::new(None) };
}

impl StoredPicture {
    /// Reads the bytes of the picture file; `None` if they are null.
    ///
    /// # Errors
    /// A message if the Parquet file cannot be read or has changed since its table was read.
    pub fn bytes(&self) -> Result<Option<Vec<u8>>, String> {
        let read = match idle::picture(|| self.to_bytes()) {
            Some(read) => read,
            None => self.bytes_here(),
        };
        read.map_err(|error| {
            format!(
                "{}: row group {}, row {}: {error}",
                self.file.display(),
                self.group,
                self.row
            )
        })
    }

    /// Reads the bytes in this process.
    ///
    /// # Errors
    /// Those of [`Self::bytes`], without the place.
    pub(in crate::formats) fn bytes_here(&self) -> Result<Option<Vec<u8>>, String> {
        PLACE.with_borrow_mut(|place| {
            let read = survived(|| {
                if !place.as_ref().is_some_and(|place| place.comes_to(self)) {
                    *place = Some(StoredPictures::open(self)?);
                }
                match place {
                    Some(place) => place.read(self).map_err(|error| error.to_string()),
                    None => Ok(None),
                }
            });
            let read = read.and_then(|read| read);
            if read.is_err() {
                *place = None;
            }
            read
        })
    }

    /// Serialises the place for another process on this machine.
    pub(in crate::formats) fn to_bytes(&self) -> Vec<u8> {
        let raw = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let numbers = [self.group, self.row, self.column, self.at];
        let place: PlainPlace = (numbers, raw(&self.file), self.path.as_deref().map(raw));
        serde_json::to_vec(&place).unwrap_or_default()
    }

    /// Reads a place that [`Self::to_bytes`] wrote; `None` if the bytes are anything else.
    pub(in crate::formats) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([group, row, column, at], file, path): PlainPlace = serde_json::from_slice(bytes).ok()?;
        let path_of = |raw: Vec<u8>| PathBuf::from(OsString::from_vec(raw));
        Some(Self {
            file: path_of(file).into(),
            group,
            row,
            column,
            at,
            path: path.map(path_of),
        })
    }
}

/// A reader of one column of a row group, row by row.
struct StoredPictures {
    file: Arc<Path>,
    group: usize,
    column: usize,
    /// The row that is read next.
    next: usize,
    /// The record that was read last, with its row. It is kept because the pictures of a list are requested one by one.
    last: Option<(usize, Vec<Option<ByteArray>>)>,
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The maximum definition and repetition levels of the column.
    levels: (i16, i16),
}

impl StoredPictures {
    fn open(picture: &StoredPicture) -> Result<Self, String> {
        let file = bounded_file::open(&picture.file).map_err(|error| error.to_string())?;
        let broken = |error: ParquetError| format!("a Parquet file was expected: {error}");
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        let changed = || "the file has changed since its table was read".to_owned();
        if picture.group >= reader.num_row_groups() {
            return Err(changed());
        }
        let group = reader.get_row_group(picture.group).map_err(broken)?;
        if picture.column >= group.num_columns() {
            return Err(changed());
        }
        let about = group.metadata().column(picture.column).column_descr();
        let levels = (about.max_def_level(), about.max_rep_level());
        match group.get_column_reader(picture.column).map_err(broken)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Self {
                file: Arc::clone(&picture.file),
                group: picture.group,
                column: picture.column,
                next: 0,
                last: None,
                reader,
                levels,
            }),
            _ => Err(changed()),
        }
    }

    /// Whether this reader can reach the picture without going back.
    fn comes_to(&self, picture: &StoredPicture) -> bool {
        let is_last = self.last.as_ref().is_some_and(|last| last.0 == picture.row);
        (&self.file, self.group, self.column) == (&picture.file, picture.group, picture.column)
            && (is_last || picture.row >= self.next)
    }

    fn read(&mut self, picture: &StoredPicture) -> Result<Option<Vec<u8>>, ParquetError> {
        if self.last.as_ref().is_none_or(|last| last.0 != picture.row) {
            self.reader.skip_records(picture.row - self.next)?;
            let (most_defined, most_repeated) = self.levels;
            let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
            self.reader.read_records(
                1,
                (most_defined > 0).then_some(&mut defined),
                (most_repeated > 0).then_some(&mut repeated),
                &mut values,
            )?;
            self.next = picture.row + 1;
            let mut values = values.into_iter();
            let record = match most_defined {
                0 => values.map(Some).collect(),
                most => defined
                    .into_iter()
                    .map(|level| if level == most { values.next() } else { None })
                    .collect(),
            };
            self.last = Some((picture.row, record));
        }
        let record = self.last.iter().flat_map(|last| &last.1);
        let found = record.into_iter().nth(picture.at);
        Ok(found.and_then(|one| one.as_ref().map(|bytes| bytes.data().to_vec())))
    }
}
