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
pub enum Seen {
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
    exact: HashMap<[u8; 32], usize>,
    bands: Vec<HashMap<u64, Vec<usize>>>,
    signatures: Vec<[u32; HASHES]>,
}

impl Dedup {
    /// An empty index. `threshold` is the Jaccard similarity (0..1] from which a text is a near duplicate; above 1 only
    /// exact ones are found.
    #[must_use]
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            exact: HashMap::new(),
            bands: vec![HashMap::new(); BANDS],
            signatures: Vec::new(),
        }
    }

    /// Texts let through.
    #[must_use]
    pub fn len(&self) -> usize {
        self.signatures.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
    }

    /// Looks a text up and, when it is new, remembers it under the next number.
    pub fn admit(&mut self, text: &str) -> Seen {
        let words = words(text);
        let key = *blake3::hash(words.join(" ").as_bytes()).as_bytes();
        if let Some(&number) = self.exact.get(&key) {
            return Seen::Exact(number);
        }
        let signature = signature(&words);
        if let Some(number) = self.near(&signature) {
            return Seen::Near(number);
        }
        let number = self.signatures.len();
        self.exact.insert(key, number);
        for (band, table) in self.bands.iter_mut().enumerate() {
            table.entry(band_key(&signature, band)).or_default().push(number);
        }
        self.signatures.push(signature);
        Seen::New
    }

    fn near(&self, signature: &[u32; HASHES]) -> Option<usize> {
        if self.threshold > 1.0 {
            return None;
        }
        let mut candidates: Vec<usize> = self
            .bands
            .iter()
            .enumerate()
            .filter_map(|(band, table)| table.get(&band_key(signature, band)))
            .flatten()
            .copied()
            .collect();
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
