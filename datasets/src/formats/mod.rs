//! Readers of data files, one file per format, and the list of them ([`READERS`]).
//!
//! A reader yields the rows of a file or folder as examples, or the reason why a row yields none. `row.rs` holds the
//! types that all readers share. `columns/` holds a row's fields, independent of the format, and interprets them.
//! `tables/` reads rows uninterpreted, for the published benchmarks, which know what their columns mean. `shards.rs`
//! resolves a path to its files; `packed.rs` decompresses them. Cleaning is in `curation/`; generated examples are in
//! `tabletop/`.

use std::path::{Path, PathBuf};

use crate::example::Split;
use crate::formats::row::{Origin, ReadError, Row, RowPlace};

mod columns;
mod json_text;
mod packed;
pub mod row;
pub mod shards;
pub mod tables;

pub use columns::KNOWN as COLUMNS;
pub use columns::encoded::Encoded;
pub use columns::fields::Fields;
pub use columns::stored_picture::StoredPicture;

/// The rows of a file or folder, one at a time.
pub type Rows = Box<dyn Iterator<Item = Row>>;

/// Rows in order, each of which can be read again at its place. Sources larger than memory use it.
pub trait RandomAccess: Send {
    /// Returns the next row and its place.
    fn next_row(&mut self) -> Option<(RowPlace, Row)>;

    /// Reads the row at a place again.
    fn read_again(&mut self, place: RowPlace) -> Row;
}

/// An iterator over the rows of a random-access source.
struct InOrder<R>(R);

impl<R: RandomAccess> Iterator for InOrder<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.0.next_row().map(|(_, row)| row)
    }
}

/// A format of data files.
pub trait Reader: Sync {
    /// Returns the name that a profile gives as a source's `kind`.
    fn name(&self) -> &'static str;

    /// Describes the format in one line.
    fn about(&self) -> &'static str;

    /// Whether the pictures have classes, by which drawings can be judged.
    fn has_classes(&self) -> bool {
        false
    }

    /// Whether the rows have named columns, which may be kept.
    fn has_columns(&self) -> bool {
        true
    }

    /// Returns the file endings of the format in lower case; empty if names do not identify it.
    fn endings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the files that a path means, in order.
    ///
    /// # Errors
    /// Those of [`shards::files`].
    fn files(&self, path: &Path, split: Split) -> Result<Vec<PathBuf>, ReadError> {
        shards::files(path, self.endings(), split)
    }

    /// Whether a folder is certainly of this format, whatever else lies in it.
    fn is_certain_of(&self, _folder: &Path) -> bool {
        false
    }

    /// Opens a file or folder.
    ///
    /// # Errors
    /// An error if it does not exist, cannot be read or is of another format.
    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError>;

    /// Opens a file or folder for random access. Rows that have no stable offset are copied to an anonymous file in the
    /// folder `room` while they are read. `None` if the format has no random access: its rows are kept in memory.
    ///
    /// # Errors
    /// Those of [`Reader::open`], and an error if `room` cannot be written.
    fn open_again(
        &self,
        _path: &Path,
        _origin: Origin,
        _room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        Ok(None)
    }
}

/// Declares the reader modules and builds [`READERS`], so that adding a format takes one line.
macro_rules! readers {
    ($($file:ident::$reader:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every reader.
        pub static READERS: &[&dyn Reader] = &[$(&$file::$reader),*];
    };
}

readers! {
    jsonl::JsonLinesReader,
    parquet::ParquetReader,
    webdataset::WebDatasetReader,
    image_folder::ImageFolderReader,
    idx::IdxReader,
}

/// Guesses the reader of a file, pattern or folder by file endings. For a folder, the files of the wanted split decide
/// if there are any, else those of any split. `None` if no name tells.
#[must_use]
pub fn reader_of(path: &Path, split: Split) -> Option<&'static dyn Reader> {
    let mut readers = READERS.iter().copied();
    if !path.is_dir() {
        let name = path.to_string_lossy().to_lowercase();
        return readers.find(|reader| reader.endings().iter().any(|ending| name.ends_with(ending)));
    }
    if let Some(certain) = readers.find(|reader| reader.is_certain_of(path)) {
        return Some(certain);
    }
    let has_files = |reader: &dyn Reader, split| {
        let is_told = !reader.endings().is_empty();
        is_told && reader.files(path, split).is_ok_and(|files| !files.is_empty())
    };
    let any_split = [split].into_iter().chain(Split::ALL);
    any_split
        .flat_map(|split| READERS.iter().copied().map(move |reader| (reader, split)))
        .find(|(reader, split)| has_files(*reader, *split))
        .map(|(reader, _)| reader)
}
