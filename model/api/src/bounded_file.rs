//! Reading of small files from outside, up to a limit of bytes (law L9).
//!
//! A device or a pipe is refused before it is opened, also behind a link, because reading it may never end. Where the
//! user names the file, a pipe is read like a file, because `<(command)` is one.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Opens a regular file.
///
/// # Errors
/// Any I/O error, or `InvalidInput` if it is not a regular file.
pub fn open(path: &Path) -> Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "expected a regular file"));
    }
    File::open(path)
}

/// Reads a file of at most `longest` bytes.
///
/// # Errors
/// The errors of [`open`], or `FileTooLarge` if the file is longer.
pub fn read(path: &Path, longest: u64) -> Result<Vec<u8>> {
    whole(open(path)?, longest)
}

fn whole(file: File, longest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let message = format!("the file is longer than {longest} bytes, the limit for such a file");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a text file of at most `longest` bytes.
///
/// # Errors
/// The errors of [`read`], or `InvalidData` if the file is not valid UTF-8.
pub fn read_text(path: &Path, longest: u64) -> Result<String> {
    text(read(path, longest)?)
}

/// Reads a text of at most `longest` bytes from a file, pipe or device that the user named.
///
/// # Errors
/// Any I/O error, `FileTooLarge` if there are more bytes, or `InvalidData` if they are not valid UTF-8.
pub fn read_named_text(path: &Path, longest: u64) -> Result<String> {
    text(whole(File::open(path)?, longest)?)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    let no_text = |_| Error::new(ErrorKind::InvalidData, "expected UTF-8 text");
    String::from_utf8(bytes).map_err(no_text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l9_a_file_is_read_up_to_its_limit_and_a_device_not_at_all() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let length = std::fs::metadata(&here).unwrap().len();
        assert_eq!(read(&here, length).unwrap().len() as u64, length);
        let long = read_text(&here, length - 1).unwrap_err();
        assert!(
            long.to_string()
                .contains(&format!("longer than {} bytes", length - 1)),
            "{long}"
        );
        let device = read_text(Path::new("/dev/zero"), 10).unwrap_err();
        assert!(device.to_string().contains("regular file"), "{device}");
        let endless = read_named_text(Path::new("/dev/zero"), 10).unwrap_err();
        assert!(endless.to_string().contains("longer than 10 bytes"), "{endless}");
        assert_eq!(read_named_text(Path::new("/dev/null"), 10).unwrap(), "");
        let none = read_text(&here.with_extension("none"), 10).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
