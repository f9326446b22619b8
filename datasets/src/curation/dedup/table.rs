//! A hash table from keys to text numbers, which may be on disk. It uses open addressing with linear probing
//! and is at most half full.

use std::io;
use std::path::{Path, PathBuf};

use crate::curation::dedup::spill::Spill;

/// Bytes of a slot: eight for the key and four for the number plus one, where zero means an empty slot.
const SLOT: usize = 12;
/// Number of slots that are read at a time.
const PROBE: usize = 8;
/// Number of slots of a new table. All sizes are powers of two.
const SLOTS: usize = 1 << 10;

/// The table. Keys are hashes already, so their low bits choose the slot.
#[derive(Debug)]
pub(super) struct Table {
    folder: PathBuf,
    memory: usize,
    bytes: Spill,
    /// Number of slots; zero before the first key.
    slots: usize,
    used: usize,
}

impl Table {
    /// Creates an empty table.
    pub fn new(folder: &Path, memory: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            memory,
            bytes: Spill::new(folder, memory),
            slots: 0,
            used: 0,
        }
    }

    /// Returns the number of a key, if it has one.
    pub fn get(&self, key: u64) -> io::Result<Option<u32>> {
        if self.slots == 0 {
            return Ok(None);
        }
        Ok(self.find(key)?.1)
    }

    /// Stores a number under a key and returns the number that it replaces.
    pub fn put(&mut self, key: u64, number: u32) -> io::Result<Option<u32>> {
        if 2 * (self.used + 1) > self.slots {
            self.double()?;
        }
        let (slot, old) = self.find(key)?;
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..].copy_from_slice(&(number + 1).to_le_bytes());
        self.bytes.write(slot * SLOT, &bytes)?;
        self.used += usize::from(old.is_none());
        Ok(old)
    }

    /// Finds the slot of a key and its number, or the empty slot where the key belongs.
    fn find(&self, key: u64) -> io::Result<(usize, Option<u32>)> {
        let mut slot = key as usize & (self.slots - 1);
        let mut bytes = [0; PROBE * SLOT];
        loop {
            let count = PROBE.min(self.slots - slot);
            self.bytes.read(slot * SLOT, &mut bytes[..count * SLOT])?;
            for at in 0..count {
                let (found, number) = decoded(&bytes[at * SLOT..(at + 1) * SLOT]);
                if number.is_none() || found == key {
                    return Ok((slot + at, number));
                }
            }
            slot = (slot + count) & (self.slots - 1);
        }
    }

    /// Doubles the number of slots and inserts all keys anew.
    fn double(&mut self) -> io::Result<()> {
        let mut wider = Self::new(&self.folder, self.memory);
        wider.slots = (2 * self.slots).max(SLOTS);
        wider.bytes.grow(wider.slots * SLOT)?;
        let mut bytes = vec![0; SLOTS * SLOT];
        for first in (0..self.slots).step_by(SLOTS) {
            self.bytes.read(first * SLOT, &mut bytes)?;
            for slot in bytes.chunks_exact(SLOT) {
                if let (key, Some(number)) = decoded(slot) {
                    wider.put(key, number)?;
                }
            }
        }
        *self = wider;
        Ok(())
    }
}

fn decoded(slot: &[u8]) -> (u64, Option<u32>) {
    let mut key = [0; 8];
    let mut number = [0; 4];
    key.copy_from_slice(&slot[..8]);
    number.copy_from_slice(&slot[8..]);
    (u64::from_le_bytes(key), u32::from_le_bytes(number).checked_sub(1))
}
