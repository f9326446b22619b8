//! Fixed-size records of the admitted texts, stored one after another.

use std::io;
use std::path::Path;

use crate::curation::dedup::signature::{BANDS, HASHES, Signature, TextHash};
use crate::curation::dedup::spill::Spill;

/// Bytes of a record without a signature, and with one.
const SHORT: usize = 16;
const LONG: usize = SHORT + 4 * BANDS + 4 * HASHES;
/// Bytes by which the file grows at a time.
const STEP: usize = 1 << 20;

/// An admitted text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AdmittedText {
    pub hash: TextHash,
    /// For each band, the previous text with the same band key.
    pub before: [Option<u32>; BANDS],
    pub signature: Signature,
}

/// The records of all admitted texts, by their numbers.
#[derive(Debug)]
pub(super) struct AdmittedTexts {
    bytes: Spill,
    length: usize,
    /// Bytes of a record.
    size: usize,
    count: u32,
}

impl AdmittedTexts {
    /// Creates an empty list. Without `signatures`, a record holds only the text's hash.
    pub fn new(folder: &Path, memory: usize, signatures: bool) -> Self {
        Self {
            bytes: Spill::new(folder, memory),
            length: 0,
            size: if signatures { LONG } else { SHORT },
            count: 0,
        }
    }

    /// Returns the number of records.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Appends a record.
    pub fn push(&mut self, record: &AdmittedText) -> io::Result<()> {
        let count = self.count.checked_add(1).filter(|&count| count < u32::MAX);
        let count =
            count.ok_or_else(|| io::Error::other("more than 4,294,967,294 different rows in one source"))?;
        let at = self.count as usize * self.size;
        if at + self.size > self.length {
            self.length += STEP;
            self.bytes.grow(self.length)?;
        }
        self.bytes.write(at, &encoded(record)[..self.size])?;
        self.count = count;
        Ok(())
    }

    /// Reads the record of the text `number`, which must be below [`Self::len`].
    pub fn read(&self, number: u32) -> io::Result<AdmittedText> {
        let mut bytes = [0; LONG];
        self.bytes
            .read(number as usize * self.size, &mut bytes[..self.size])?;
        Ok(decoded(&bytes))
    }

    /// Reads the number of the previous text that has the same key of `band` as the text `number`.
    pub fn before(&self, number: u32, band: usize) -> io::Result<Option<u32>> {
        let mut four = [0; 4];
        let at = number as usize * self.size + SHORT + 4 * band;
        self.bytes.read(at, &mut four)?;
        Ok(u32::from_le_bytes(four).checked_sub(1))
    }
}

/// Encodes a record. Text numbers are stored plus one, so that zero means none.
fn encoded(record: &AdmittedText) -> [u8; LONG] {
    let mut bytes = [0; LONG];
    bytes[..SHORT].copy_from_slice(&record.hash);
    let before = record
        .before
        .iter()
        .map(|before| before.map_or(0, |number| number + 1));
    let words = before.chain(record.signature.0);
    for (four, word) in bytes[SHORT..].chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn decoded(bytes: &[u8; LONG]) -> AdmittedText {
    let mut words = bytes[SHORT..]
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let mut record = AdmittedText {
        hash: TextHash::default(),
        before: [None; BANDS],
        signature: Signature::default(),
    };
    record.hash.copy_from_slice(&bytes[..SHORT]);
    for (before, word) in record.before.iter_mut().zip(&mut words) {
        *before = word.checked_sub(1);
    }
    for (hash, word) in record.signature.0.iter_mut().zip(&mut words) {
        *hash = word;
    }
    record
}
