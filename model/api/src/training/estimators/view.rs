//! A masked view of a completion, and how positions are chosen for one.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::data::sequence::Sequence;

/// One masked input that stands for a completion's likelihood.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedView {
    /// Token ids with masks.
    pub ids: Vec<u32>,
    /// The answer positions whose log-probability counts, with their weights.
    pub counted: Vec<(usize, f64)>,
}

impl MaskedView {
    /// A sequence masked at positions that all count alike.
    pub(super) fn at(sequence: &Sequence, mask_token: u32, positions: &[usize]) -> Self {
        Self {
            ids: masked(&sequence.ids, positions, mask_token),
            counted: positions.iter().map(|&at| (at, 1.0)).collect(),
        }
    }
}

/// Token ids with the mask token at the positions.
pub(super) fn masked(ids: &[u32], positions: &[usize], mask_token: u32) -> Vec<u32> {
    let mut ids = ids.to_vec();
    for &at in positions {
        if let Some(id) = ids.get_mut(at) {
            *id = mask_token;
        }
    }
    ids
}

/// The positions of a sequence's answer, span after span.
pub(super) fn answer_positions(sequence: &Sequence) -> Vec<usize> {
    let spans = sequence.answer.iter();
    spans.flat_map(|span| span.start..span.end).collect()
}

/// Each position with probability `ratio`; one at random when none was drawn, so that every view teaches something.
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
