//! Seeds: every random choice of a run follows from the run's one seed (law L8).

/// Derives the seed for one purpose in one step from the run's seed. Seeds of different purposes or steps differ.
#[must_use]
pub fn seed_of(seed: u64, step: u64, purpose: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [seed, step, purpose] {
        hasher.update(&part.to_le_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // Kept below 2^53, so that every JSON reader gets the same seed.
    u64::from_le_bytes(bytes) >> 11
}
