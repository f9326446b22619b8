//! Exact and near duplicates of text: a hash of the normalised text, and MinHash with banding over word shingles.
//!
//! Two texts whose shingle sets have the Jaccard similarity s share a band with probability 1 − (1 − s^R)^B, which for
//! B = 14 bands of R = 8 hashes is 0.5 at s ≈ 0.7 (Broder 1997; the settings of RedPajama and DCLM). Texts that share a
//! band are compared by their whole signatures, so a band shared by chance makes no duplicate. Texts of one template may
//! all share a band, and comparing each with all of them would be quadratic. A text is therefore compared with the latest
//! [`MOST_OF_A_BAND`] of each band, and the index counts the texts for which that was not all (law L9).
//!
//! The index takes 0.6 to 0.9 kB per admitted text. It is in memory up to a limit and in unnamed temporary
//! files beyond it, so that a source of a million rows needs no more memory than one of a hundred thousand
//! (law L9).

mod admitted;
mod signature;
mod spill;
mod table;

use std::io;
use std::path::Path;

use crate::curation::dedup::admitted::{AdmittedText, AdmittedTexts};
use crate::curation::dedup::signature::{BANDS, Signature};
use crate::curation::dedup::table::Table;

pub use crate::curation::dedup::signature::words;

/// The most texts of a band with which a text is compared, the latest ones.
pub const MOST_OF_A_BAND: usize = 256;

/// Bytes that each of the index's two files holds in memory before it moves to disk.
const MEMORY: usize = 32 << 20;

/// The result of comparing a text with the admitted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// A new text.
    New,
    /// A text equal to an earlier one, after normalising case, white space and punctuation. The number is the
    /// earlier text's.
    Exact(usize),
    /// A near duplicate of an earlier text. The number is the earlier text's.
    Near(usize),
}

/// The index of the texts that were admitted so far.
#[derive(Debug)]
pub struct Dedup {
    threshold: f64,
    /// Maps the key of a whole text, and the key of each band, to the last text with that key.
    last: Table,
    /// The records of the admitted texts. A record refers to the previous text with the same key of each
    /// band.
    records: AdmittedTexts,
    /// The number of admitted texts that were not compared with all that share a band with them.
    capped: u64,
}

impl Dedup {
    /// Creates an empty index. `threshold` is the Jaccard similarity in (0, 1] from which a text is a near
    /// duplicate. Above 1, only exact duplicates are found and no signatures are computed. The index's
    /// temporary files, if it needs any, are in `folder`.
    #[must_use]
    pub fn new(threshold: f64, folder: &Path) -> Self {
        Self::with_memory(threshold, folder, MEMORY)
    }

    /// Creates an empty index whose two files each hold up to `memory` bytes in memory.
    #[must_use]
    pub fn with_memory(threshold: f64, folder: &Path, memory: usize) -> Self {
        Self {
            threshold,
            last: Table::new(folder, memory),
            records: AdmittedTexts::new(folder, memory, threshold <= 1.0),
            capped: 0,
        }
    }

    /// Returns the number of admitted texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len() as usize
    }

    /// Returns the number of admitted texts that were compared with only the latest [`MOST_OF_A_BAND`] texts of a band, so
    /// that an earlier near duplicate may have been missed.
    #[must_use]
    pub fn capped(&self) -> u64 {
        self.capped
    }

    /// Whether no text was admitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// Looks a text up and, if it is new, admits it under the next number.
    ///
    /// # Errors
    /// Returns an error if the index's files cannot be created, read or written.
    pub fn admit(&mut self, text: &str) -> io::Result<Novelty> {
        let words = words(text);
        let hash = signature::hash(&words);
        let key = signature::text_key(&hash);
        if let Some(number) = self.last.get(key)?
            && self.records.read(number)?.hash == hash
        {
            return Ok(Novelty::Exact(number as usize));
        }
        let signature = (self.threshold <= 1.0).then(|| Signature::of(&words));
        let keys = signature.as_ref().map(Signature::band_keys);
        if let (Some(signature), Some(keys)) = (&signature, &keys) {
            let (candidates, is_capped) = self.candidates(keys)?;
            if let Some(number) = self.near(signature, candidates)? {
                return Ok(Novelty::Near(number as usize));
            }
            self.capped += u64::from(is_capped);
        }
        let number = self.records.len();
        self.last.put(key, number)?;
        let mut before = [None; BANDS];
        for (before, key) in before.iter_mut().zip(keys.into_iter().flatten()) {
            *before = self.last.put(key, number)?;
        }
        self.records.push(&AdmittedText {
            hash,
            before,
            signature: signature.unwrap_or_default(),
        })?;
        Ok(Novelty::New)
    }

    /// Returns the latest admitted texts of each of these bands, in order, and whether there are more.
    fn candidates(&self, keys: &[u64; BANDS]) -> io::Result<(Vec<u32>, bool)> {
        let (mut candidates, mut is_capped) = (Vec::new(), false);
        for (band, &key) in keys.iter().enumerate() {
            let mut next = self.last.get(key)?;
            for _ in 0..MOST_OF_A_BAND {
                let Some(number) = next else { break };
                candidates.push(number);
                next = self.records.before(number, band)?;
            }
            is_capped |= next.is_some();
        }
        candidates.sort_unstable();
        candidates.dedup();
        Ok((candidates, is_capped))
    }

    /// Returns the first of these texts that is similar enough to this signature, if there is one.
    fn near(&self, signature: &Signature, candidates: Vec<u32>) -> io::Result<Option<u32>> {
        for number in candidates {
            if signature.similarity(&self.records.read(number)?.signature) >= self.threshold {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}
