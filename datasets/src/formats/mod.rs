//! Readers of data files, a format each, and the one list of them.
//!
//! A reader gives the rows of a file or folder as examples, or says why a row gives none. `row.rs` is what every reader
//! says of a row. Cleaning is in `curation/`; what is generated and not read is in `tabletop/`.

use std::path::Path;

use crate::formats::row::{Origin, ReadError, Row};

pub mod row;

/// The rows of a file or folder, one at a time.
pub type Rows = Box<dyn Iterator<Item = Row>>;

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

    /// Opens a file or folder.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is of another format.
    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError>;
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
    image_folder::ImageFolderReader,
    idx::IdxReader,
}
