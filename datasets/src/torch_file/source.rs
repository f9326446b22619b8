//! Random access to the bytes of a file. Reads never pass its end, and no memory is allocated that the file does not
//! fill.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use demask_api::bounded_file;

use super::error::{Flaw, broken};

/// Bytes per piece of a sequential read.
pub(super) const CHUNK: usize = 1 << 20;

/// A byte range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The offset of the first byte.
    pub(super) start: u64,
    /// The number of bytes.
    pub(super) len: u64,
    /// Their CRC-32, if the file states it.
    pub(super) crc: Option<u32>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    len: u64,
    path: PathBuf,
}

impl OpenFile {
    pub(super) fn open(path: &Path) -> Result<Self, Flaw> {
        let file = bounded_file::open(path)?;
        let found = file.metadata()?;
        Ok(Self {
            file,
            len: found.len(),
            path: path.to_owned(),
        })
    }

    /// Returns the file's length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the first 32 bytes, fewer if the file is shorter.
    pub(super) fn peek(&self) -> Result<Vec<u8>, Flaw> {
        self.read(0, self.len.min(32))
    }

    /// Reads `len` bytes from `start`.
    pub(super) fn read(&self, start: u64, len: u64) -> Result<Vec<u8>, Flaw> {
        let end = start.checked_add(len).filter(|&end| end <= self.len);
        let (Some(_), Ok(count)) = (end, usize::try_from(len)) else {
            let whole = self.len;
            return broken(format!(
                "the file ends at byte {whole}, but {len} bytes from byte {start} were expected: it may be incomplete"
            ));
        };
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Passes a range to `sink` in pieces of [`CHUNK`] bytes; the last may be shorter.
    pub(super) fn stream(
        &self,
        start: u64,
        len: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(CHUNK as u64);
            sink(&self.read(start + done, piece)?)?;
            done += piece;
        }
        Ok(())
    }

    /// Compares a region with its checksum.
    pub(super) fn check(&self, region: Region, what: &str) -> Result<(), Flaw> {
        let Some(expected) = region.crc else {
            return Ok(());
        };
        let mut crc = flate2::Crc::new();
        self.stream(region.start, region.len, &mut |piece| {
            crc.update(piece);
            Ok(())
        })?;
        if crc.sum() == expected {
            return Ok(());
        }
        let found = crc.sum();
        broken(format!(
            "{what} is damaged: its CRC-32 is {found:08x}, the archive says {expected:08x}; download the file again"
        ))
    }
}
