//! Readers of data files, a format each, and the one list of them.
//!
//! A reader gives the rows of a file or folder as examples, or says why a row gives none. `row.rs` is what every reader
//! says of a row, `columns/` a row's fields whatever the file is and what they mean,
//! `tables/` rows as they are, which mean what a published benchmark says. `shards.rs` says which files a
//! path means, `packed.rs` unpacks them. Cleaning is in `curation/`; what is generated and not read is in `tabletop/`.

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

/// The rows of a source in their order, each of which can be read again at its place: what is too large for memory is.
pub trait RandomAccess: Send {
    /// The next row and its place.
    fn next_row(&mut self) -> Option<(RowPlace, Row)>;

    /// The row at a place once more.
    fn read_again(&mut self, place: RowPlace) -> Row;
}

/// The rows of random access as an iterator.
struct InOrder<R>(R);

impl<R: RandomAccess> Iterator for InOrder<R> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.0.next_row().map(|(_, row)| row)
    }
}

/// A format of data files.
pub trait Reader: Sync {
    /// The name that a profile gives as a source's `kind`.
    fn name(&self) -> &'static str;

    /// What is read, in a line.
    fn about(&self) -> &'static str;

    /// Whether the pictures have classes, by which drawings can be judged.
    fn has_classes(&self) -> bool {
        false
    }

    /// Whether the rows have named columns, which may be kept.
    fn has_columns(&self) -> bool {
        true
    }

    /// What the names of such files end in, in lower case; none where names tell nothing.
    fn endings(&self) -> &'static [&'static str] {
        &[]
    }

    /// The files that a path means, in order.
    ///
    /// # Errors
    /// As [`shards::files`].
    fn files(&self, path: &Path, split: Split) -> Result<Vec<PathBuf>, ReadError> {
        shards::files(path, self.endings(), split)
    }

    /// Whether a folder is of this format whatever else lies in it.
    fn is_certain_of(&self, _folder: &Path) -> bool {
        false
    }

    /// Opens a file or folder.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is of another format.
    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError>;

    /// Opens it so that each row can be read again; what is packed is unpacked into a nameless file in the folder `room` on
    /// the way. None where the format cannot: its rows are kept in memory.
    ///
    /// # Errors
    /// As [`Reader::open`]; a `room` that cannot be written.
    fn open_again(
        &self,
        _path: &Path,
        _origin: Origin,
        _room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        Ok(None)
    }
}

/// Declares the files of this folder and lists their readers, so that a format is added by one line.
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

/// The reader of a file, a pattern or a folder that nobody named the format of: by the names of its files; of a folder by
/// those of the wanted split where there are any. None where no name tells.
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
