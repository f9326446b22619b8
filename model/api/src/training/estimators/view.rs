//! Masked views of a completion, and the choice of their masked positions.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::data::sequence::Sequence;

/// A masked input for the estimate of a completion's likelihood.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedView {
    /// The token ids, with the mask token at masked positions.
    pub ids: Vec<u32>,
    /// The answer positions whose log-probability counts, each with its weight.
    pub counted: Vec<(usize, f64)>,
}

impl MaskedView {
    /// Masks a sequence at positions, which all count with weight 1.
    pub(super) fn at(sequence: &Sequence, mask_token: u32, positions: &[usize]) -> Self {
        Self {
            ids: masked(&sequence.ids, positions, mask_token),
            counted: positions.iter().map(|&at| (at, 1.0)).collect(),
        }
    }
}

/// Returns the token ids with the mask token at the positions.
pub(super) fn masked(ids: &[u32], positions: &[usize], mask_token: u32) -> Vec<u32> {
    let mut ids = ids.to_vec();
    for &at in positions {
        if let Some(id) = ids.get_mut(at) {
            *id = mask_token;
        }
    }
    ids
}

/// Returns the positions of a sequence's answer, span by span.
pub(super) fn answer_positions(sequence: &Sequence) -> Vec<usize> {
    let spans = sequence.answer.iter();
    spans.flat_map(|span| span.start..span.end).collect()
}

/// Chooses each position with probability `ratio`. If none is chosen, it chooses a random one, so that no view is
/// without a mask.
pub(super) fn choose_at_least_one(answer: &[usize], ratio: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let chosen: Vec<usize> = answer
        .iter()
        .copied()
        .filter(|_| rng.random::<f64>() < ratio)
        .collect();
    if chosen.is_empty() && !answer.is_empty() {
        return vec![answer[rng.random_range(0..answer.len())]];
    }
    chosen
}
