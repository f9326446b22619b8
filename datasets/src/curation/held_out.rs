//! Which rows of a source are held out of training: a share of them, by a hash of what they ask.

use crate::example::{Example, Kind, Split};

/// Whether a row is held out where this share of the rows is: by a hash of what is asked, so that the same question is on one
/// side whatever its answer is, its row and the seed are.
#[must_use]
pub fn is_held_out(share: f64, examples: &[Example]) -> bool {
    let Some(first) = examples.first().filter(|_| share > 0.0) else {
        return false;
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(first.prompt.as_bytes());
    hasher.update(first.picture.as_ref().map_or(&[], |picture| &picture.rgb));
    // Plain text asks nothing.
    if first.kind == Kind::Text {
        hasher.update(first.answer.as_deref().unwrap_or_default().as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(bytes) as f64 / u64::MAX as f64) < share
}

/// The examples of the rows that are held out, one after another, as a test's; a row that cannot be read is told where the
/// source itself is read.
pub fn held_out_rows<E>(
    rows: impl Iterator<Item = Result<Vec<Example>, E>>,
    share: f64,
) -> impl Iterator<Item = Example> {
    rows.flatten()
        .filter(move |examples| is_held_out(share, examples))
        .flatten()
        .map(|example| Example {
            split: Split::Test,
            ..example
        })
}
