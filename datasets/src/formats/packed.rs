//! Decompression of packed files (`.gz`, `.zst`), and the spool in which rows without a stable offset are kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use demask_api::bounded_file;
use flate2::bufread::MultiGzDecoder;

use super::row::ReadError;
use crate::unnamed_file;

/// Bytes that are read or written at a time.
const CHUNK: usize = 1 << 20;
/// The base-2 logarithm of the largest window that a zstd file may ask for (law L9).
const WINDOW_LOG: u32 = 27;

/// How a file is packed.
#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

/// Returns how a file is packed, by its ending; `None` if it is not.
fn packing(path: &Path) -> Option<Compression> {
    let ending = path.extension()?.to_string_lossy().to_lowercase();
    match ending.as_str() {
        "gz" | "tgz" => Some(Compression::Gzip),
        "zst" | "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// Whether a file is packed, by its ending.
#[must_use]
pub fn is_packed(path: &Path) -> bool {
    packing(path).is_some()
}

/// Opens a file's contents, decompressed if it is packed.
///
/// # Errors
/// An error if the file cannot be opened.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, ReadError> {
    let file = bounded_file::open(path).map_err(|error| ReadError::io(path, error))?;
    let file = BufReader::with_capacity(CHUNK, file);
    Ok(match packing(path) {
        Some(Compression::Gzip) => Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(file))),
        Some(Compression::Zstd) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file);
            let mut decoder = decoder.map_err(|error| ReadError::io(path, error))?;
            let limited = decoder.window_log_max(WINDOW_LOG);
            limited.map_err(|error| ReadError::io(path, error))?;
            Box::new(BufReader::with_capacity(CHUNK, decoder))
        }
        None => Box::new(file),
    })
}

/// A spool of rows in an unnamed file.
#[derive(Debug)]
pub struct Spool {
    file: File,
    /// Bytes in the file.
    written: u64,
    /// Bytes that are not written yet; they follow those in the file.
    pending: Vec<u8>,
}

impl Spool {
    /// Creates an empty spool in a folder.
    ///
    /// # Errors
    /// An error if the folder cannot be written.
    pub fn new(room: &Path) -> Result<Self, ReadError> {
        let file = unnamed_file::create_in(room).map_err(|error| ReadError::io(room, error))?;
        Ok(Self {
            file,
            written: 0,
            pending: Vec::new(),
        })
    }

    /// Appends a row's bytes and returns their place.
    ///
    /// # Errors
    /// Any I/O error, such as a full disk; an error if the row has more than 4 GiB.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.written + self.pending.len() as u64;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.pending.extend(length.to_le_bytes());
        self.pending.extend(bytes);
        if self.pending.len() >= CHUNK {
            self.settle()?;
        }
        Ok(at)
    }

    fn settle(&mut self) -> io::Result<()> {
        // At their place: a write that a full disk cuts short leaves some of the bytes and moves the file's cursor, after
        // which every later row would lie elsewhere than its place says.
        self.file.write_all_at(&self.pending, self.written)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Reads the row at a place.
    ///
    /// # Errors
    /// Any I/O error, such as a full disk.
    pub fn get(&mut self, at: u64) -> io::Result<Vec<u8>> {
        if !self.pending.is_empty() {
            self.settle()?;
        }
        let mut length = [0; 4];
        self.file.read_exact_at(&mut length, at)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.file.read_exact_at(&mut bytes, at + 4)?;
        Ok(bytes)
    }
}

/// A reader of a file from a given offset; it does not move the file's own cursor.
#[derive(Debug)]
pub struct At {
    /// The file.
    pub file: File,
    /// The offset of the byte that is read next.
    pub at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_write_that_was_cut_short_moves_no_later_row() {
        let room = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(room.path()).unwrap();
        let first = spool.append(b"first").unwrap();
        // What a full disk leaves of a write, which is then done again.
        (&spool.file).write_all(b"\x05\0\0").unwrap();
        let second = spool.append(b"second").unwrap();
        assert_eq!(spool.get(first).unwrap(), b"first");
        let third = spool.append(b"third").unwrap();
        for (place, row) in [(third, "third"), (second, "second"), (first, "first")] {
            assert_eq!(spool.get(place).unwrap(), row.as_bytes());
        }
    }
}
