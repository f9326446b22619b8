//! A temporary file without a name, which the system removes when the process ends, however it ends.

use std::fs::File;
use std::io;
use std::path::Path;

/// Creates an empty file on the disk of a folder, and the folder if there is none.
///
/// # Errors
/// Any I/O error, such as a folder that cannot be written.
pub(crate) fn create_in(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder)
}
