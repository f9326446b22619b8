//! A byte array that is in memory up to a limit and in an unnamed temporary file beyond it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::unnamed_file;

/// Random-access bytes, zero where nothing was written.
#[derive(Debug)]
pub(super) struct Spill {
    folder: PathBuf,
    memory: usize,
    medium: Medium,
}

#[derive(Debug)]
enum Medium {
    Memory(Vec<u8>),
    /// An unnamed file.
    Disk(File),
}

impl Spill {
    /// Creates an empty array. Above `memory` bytes, it moves to a file in `folder`.
    pub fn new(folder: &Path, memory: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            memory,
            medium: Medium::Memory(Vec::new()),
        }
    }

    /// Extends the array to `length` with zeros. It moves to disk if `length` exceeds the limit.
    pub fn grow(&mut self, length: usize) -> io::Result<()> {
        match &mut self.medium {
            Medium::Memory(bytes) if length <= self.memory => bytes.resize(length, 0),
            Medium::Memory(bytes) => {
                let file = unnamed_file::create_in(&self.folder)?;
                file.write_all_at(bytes, 0)?;
                file.set_len(length as u64)?;
                self.medium = Medium::Disk(file);
            }
            Medium::Disk(file) => file.set_len(length as u64)?,
        }
        Ok(())
    }

    /// Reads the bytes from `at` on. All of them must be within the length.
    pub fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        match &self.medium {
            Medium::Memory(bytes) => {
                into.copy_from_slice(&bytes[at..at + into.len()]);
                Ok(())
            }
            Medium::Disk(file) => file.read_exact_at(into, at as u64),
        }
    }

    /// Writes the bytes from `at` on. All of them must be within the length.
    pub fn write(&mut self, at: usize, from: &[u8]) -> io::Result<()> {
        match &mut self.medium {
            Medium::Memory(bytes) => {
                bytes[at..at + from.len()].copy_from_slice(from);
                Ok(())
            }
            Medium::Disk(file) => file.write_all_at(from, at as u64),
        }
    }
}
