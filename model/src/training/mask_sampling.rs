//! Mask sampling: the forward process, which chooses the masked tokens of a sequence (`mmada.md` 3.1, 3.2).
//!
//! The noise of a row is a pure function of (seed, row), so a step that is repeated after a crash is the same step (law
//! L8).
//!
//! The times of the rows of a batch are stratified: one uniform start, shifted by row / rows modulo 1. Every single row
//! has the published distribution, and a batch has less variance.
//!
//! An answer of L tokens has exactly l masked tokens, with l uniform in 1..=L, and its loss has the weight L / l:
//! LLaDA's equation 14. This has the same expectation as independent masks with probability p uniform in 0..1 and
//! weight 1 / p, but less variance, and no row is without a mask.
//!
//! A share of the text answers can be noised block by block instead ([`BlockNoise`]). They then look as in
//! semi-autoregressive sampling: clean blocks before the active one, and masks after it.

use demask_api::{BlockNoise, Sequence, Task};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A noised sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Noised {
    /// The token ids, with the mask token at masked positions.
    pub ids: Vec<u32>,
    /// The masked positions that count in the loss, ascending.
    pub positions: Vec<usize>,
    /// The probability that a position of the answer is among them; for pictures, the mask ratio.
    pub p: f64,
}

/// Returns the random number generator of one row.
#[must_use]
pub fn row_rng(seed: u64, row: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(row as u64 + 1);
    rng
}

/// Returns the stratified time of a row, in [0, 1).
#[must_use]
pub fn time(seed: u64, row: usize, rows: usize) -> f64 {
    let start: f64 = ChaCha8Rng::seed_from_u64(seed).random();
    (start + row as f64 / rows.max(1) as f64).fract()
}

/// Noises a sequence that is row `row` of `rows`.
#[must_use]
pub fn noise(
    sequence: &Sequence,
    mask_token: u32,
    blocks: BlockNoise,
    seed: u64,
    row: usize,
    rows: usize,
) -> Noised {
    let mut rng = row_rng(seed, row);
    let answer: Vec<usize> = sequence
        .answer
        .iter()
        .flat_map(|span| span.start..span.end)
        .collect();
    let u = time(seed, row, rows);
    let by_block = blocks.share > 0.0
        && matches!(sequence.task, Task::Text | Task::Understand)
        && rng.random::<f64>() < blocks.share;
    if by_block && !answer.is_empty() {
        return one_block(sequence, &answer, mask_token, blocks.length.max(1), u, &mut rng);
    }
    let (positions, p) = match sequence.task {
        Task::TextToImage => {
            let ratio = (std::f64::consts::FRAC_PI_2 * u).cos();
            (choose(&answer, ratio, &mut rng), ratio)
        }
        Task::Text | Task::Understand | Task::ThinkThenDraw => {
            let p = masked_share(u, answer.len());
            (choose(&answer, p, &mut rng), p)
        }
    };
    Noised {
        ids: masked(&sequence.ids, &positions, mask_token),
        positions,
        p,
    }
}

/// Noises a uniformly chosen block of the answer. The blocks after it are fully masked and do not count in the loss.
fn one_block(
    sequence: &Sequence,
    answer: &[usize],
    mask_token: u32,
    length: usize,
    u: f64,
    rng: &mut ChaCha8Rng,
) -> Noised {
    let first = length * rng.random_range(0..answer.len().div_ceil(length));
    let end = answer.len().min(first + length);
    let p = masked_share(u, end - first);
    let positions = choose(&answer[first..end], p, rng);
    let ids = masked(&sequence.ids, &positions, mask_token);
    Noised {
        ids: masked(&ids, &answer[end..], mask_token),
        positions,
        p: p / answer.len().div_ceil(length) as f64,
    }
}

/// Returns the share of `length` positions that is masked at time `u`. The count is uniform in 1..=`length`.
fn masked_share(u: f64, length: usize) -> f64 {
    let masked = (u * length as f64).floor() + 1.0;
    (masked / length.max(1) as f64).min(1.0)
}

/// Returns the ids with the mask token at the positions.
#[must_use]
pub fn masked(ids: &[u32], positions: &[usize], mask_token: u32) -> Vec<u32> {
    let mut ids = ids.to_vec();
    for &at in positions {
        ids[at] = mask_token;
    }
    ids
}

/// Chooses `max(1, round(n * ratio))` of the n positions uniformly. Returns them ascending.
fn choose(answer: &[usize], ratio: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = ((answer.len() as f64 * ratio).round() as usize).clamp(1.min(answer.len()), answer.len());
    let mut ranked: Vec<(f64, usize)> = answer.iter().map(|&at| (rng.random(), at)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut positions: Vec<usize> = ranked.into_iter().take(count).map(|(_, at)| at).collect();
    positions.sort_unstable();
    positions
}
