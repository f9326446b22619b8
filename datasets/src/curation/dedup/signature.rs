//! MinHash signatures over word shingles, and the keys under which texts and bands are looked up.

/// Bands of a signature.
pub(super) const BANDS: usize = 14;
/// Hashes in a band.
const ROWS: usize = 8;
/// Hashes in a signature.
pub(super) const HASHES: usize = BANDS * ROWS;
/// Words in a shingle.
const SHINGLE: usize = 3;

/// The first 16 bytes of the BLAKE3 hash of a text's words.
pub(super) type TextHash = [u8; 16];

/// The smallest hash of a text's shingles under each of the hash functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature(pub [u32; HASHES]);

impl Default for Signature {
    fn default() -> Self {
        Self([u32::MAX; HASHES])
    }
}

impl Signature {
    /// Computes the signature of a text's words. A text of fewer words than a shingle is one shingle.
    pub fn of(words: &[String]) -> Self {
        let mut lowest = Self::default();
        let count = words.len().saturating_sub(SHINGLE - 1).max(1);
        for at in 0..count {
            let shingle = words[at.min(words.len())..(at + SHINGLE).min(words.len())].join(" ");
            let mut bytes = [0; 4 * HASHES];
            blake3::Hasher::new()
                .update(shingle.as_bytes())
                .finalize_xof()
                .fill(&mut bytes);
            for (low, four) in lowest.0.iter_mut().zip(bytes.chunks_exact(4)) {
                *low = (*low).min(u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            }
        }
        lowest
    }

    /// Returns the key of each band, which differs from band to band for the same hashes.
    pub fn band_keys(&self) -> [u64; BANDS] {
        std::array::from_fn(|band| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&[band as u8]);
            for value in &self.0[band * ROWS..(band + 1) * ROWS] {
                hasher.update(&value.to_le_bytes());
            }
            first_eight(hasher.finalize().as_bytes())
        })
    }

    /// Returns the share of equal hashes, an estimate of the Jaccard similarity.
    pub fn similarity(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count() as f64 / HASHES as f64
    }
}

/// Hashes the words of a text.
pub(super) fn hash(words: &[String]) -> TextHash {
    let mut hash = TextHash::default();
    hash.copy_from_slice(&blake3::hash(words.join(" ").as_bytes()).as_bytes()[..16]);
    hash
}

/// Returns the key of a whole text.
pub(super) fn text_key(hash: &TextHash) -> u64 {
    first_eight(hash)
}

fn first_eight(hash: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(bytes)
}

/// Splits a text into lower-case words without punctuation. Numbers are words: "48 clips" and "49 clips" differ.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
