//! Exact and near duplicates of text: a normalised hash, and MinHash with banding over word shingles.
//!
//! Two texts whose shingle sets overlap by Jaccard similarity s share a band with probability 1 − (1 − s^R)^B; with
//! B = 14 bands of R = 8 that is 0.5 at s ≈ 0.7 (Broder 1997; the settings of RedPajama and DCLM). Candidates are then
//! compared by their signatures, so a chance band is no duplicate.

use std::collections::HashMap;

/// Bands of a signature.
const BANDS: usize = 14;
/// Hashes in a band.
const ROWS: usize = 8;
/// Hashes in a signature.
const HASHES: usize = BANDS * ROWS;
/// Words in a shingle.
const SHINGLE: usize = 3;

/// What a text is, beside those that came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// New.
    New,
    /// Equal after normalising case, white space and punctuation, to the one of this number.
    Exact(usize),
    /// Near to the one of this number.
    Near(usize),
}

/// The texts that were let through so far.
#[derive(Clone, Debug)]
pub struct Dedup {
    threshold: f64,
    /// The first 16 bytes of each text's hash.
    exact: HashMap<[u8; 16], u32>,
    /// Of each band the last text with a key; `before` leads to the earlier ones.
    bands: Vec<HashMap<u64, u32>>,
    /// For each text and band the text before it with the same key.
    before: Vec<[u32; BANDS]>,
    signatures: Vec<[u32; HASHES]>,
    admitted: u32,
}

/// No text.
const NONE: u32 = u32::MAX;

impl Dedup {
    /// An empty index. `threshold` is the Jaccard similarity (0..1] from which a text is a near duplicate; above 1 only
    /// exact ones are found.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            exact: HashMap::new(),
            bands: vec![HashMap::new(); BANDS],
            before: Vec::new(),
            signatures: Vec::new(),
            admitted: 0,
        }
    }

    /// Texts let through.
    #[must_use]
    pub fn len(&self) -> usize {
        self.admitted as usize
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admitted == 0
    }

    /// Looks a text up and, when it is new, remembers it under the next number.
    pub fn admit(&mut self, text: &str) -> Novelty {
        let words = words(text);
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(words.join(" ").as_bytes()).as_bytes()[..16]);
        if let Some(&number) = self.exact.get(&key) {
            return Novelty::Exact(number as usize);
        }
        let number = self.admitted;
        // Signatures are the most of the work and of the memory; where only equal texts count there are none.
        if self.threshold <= 1.0 {
            let signature = signature(&words);
            if let Some(number) = self.near(&signature) {
                return Novelty::Near(number);
            }
            let mut before = [NONE; BANDS];
            for ((band, table), before) in self.bands.iter_mut().enumerate().zip(&mut before) {
                *before = table.insert(band_key(&signature, band), number).unwrap_or(NONE);
            }
            self.before.push(before);
            self.signatures.push(signature);
        }
        self.exact.insert(key, number);
        self.admitted = number.saturating_add(1);
        Novelty::New
    }

    fn near(&self, signature: &[u32; HASHES]) -> Option<usize> {
        let mut candidates = Vec::new();
        for (band, table) in self.bands.iter().enumerate() {
            let mut next = table.get(&band_key(signature, band)).copied().unwrap_or(NONE);
            while let Some(before) = self.before.get(next as usize) {
                candidates.push(next as usize);
                next = before[band];
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates
            .into_iter()
            .find(|&number| similarity(signature, &self.signatures[number]) >= self.threshold)
    }
}

/// Lower-case words without punctuation. Numbers are words: "48 clips" and "49 clips" differ.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The smallest hash of every shingle, under each of the hash functions. A text of fewer words than a shingle is one.
fn signature(words: &[String]) -> [u32; HASHES] {
    let mut lowest = [u32::MAX; HASHES];
    let count = words.len().saturating_sub(SHINGLE - 1).max(1);
    for at in 0..count {
        let shingle = words[at.min(words.len())..(at + SHINGLE).min(words.len())].join(" ");
        let mut bytes = [0; 4 * HASHES];
        blake3::Hasher::new()
            .update(shingle.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        for (low, four) in lowest.iter_mut().zip(bytes.chunks_exact(4)) {
            *low = (*low).min(u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        }
    }
    lowest
}

fn band_key(signature: &[u32; HASHES], band: usize) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for value in &signature[band * ROWS..(band + 1) * ROWS] {
        hasher.update(&value.to_le_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The share of equal hashes: an estimate of the Jaccard similarity.
fn similarity(a: &[u32; HASHES], b: &[u32; HASHES]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64
}
