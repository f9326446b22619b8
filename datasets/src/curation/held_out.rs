//! Selects the rows of a source that are held out of training: a fixed share, by a hash of the question.

use crate::example::{Example, Kind, Split};

/// Whether a row belongs to the held-out `share` of a source.
///
/// The decision is a hash of what is asked. It does not depend on the answer, the row's position or the seed, so that
/// the same question always falls on the same side.
#[must_use]
pub fn is_held_out(share: f64, examples: &[Example]) -> bool {
    let Some(first) = examples.first().filter(|_| share > 0.0) else {
        return false;
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(first.prompt.as_bytes());
    hasher.update(first.picture.as_ref().map_or(&[], |picture| &picture.rgb));
    // Plain text asks nothing: its own words decide.
    if first.kind == Kind::Text {
        hasher.update(first.answer.as_deref().unwrap_or_default().as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (u64::from_le_bytes(bytes) as f64 / u64::MAX as f64) < share
}

/// Returns the examples of the held-out rows, marked as the test split. Rows that cannot be read are skipped; they are
/// reported when the source itself is read.
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
