//! Seeds: everything random in a run follows from its one seed (law L8).

/// A seed for a purpose of a step: all of them differ, and follow from the run's.
#[must_use]
pub fn seed_of(seed: u64, step: u64, purpose: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in [seed, step, purpose] {
        hasher.update(&part.to_le_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // Kept below 2^53, so that a seed in JSON is the same seed everywhere.
    u64::from_le_bytes(bytes) >> 11
}
