//! Which tokens of a sequence are masked: the forward process (`mmada.md` 3.1, 3.2).
//!
//! Counter-based: the noise of a row is a pure function of (seed, row), so a step done again after a crash is the same
//! step (law L8). The times of a batch's rows are stratified: one uniform start, rotated by row / rows, which has the
//! published distribution for every single row and less variance over a batch. Of an answer of L tokens exactly
//! l = 1..=L uniform are masked, and the loss weighs by L / l: LLaDA's equation 14, the same expectation as independent masks
//! at p uniform in 0..1 with weight 1 / p, with less variance and never an empty row.
//!
//! A share of the text answers can be noised block by block instead ([`BlockNoise`]): as semi-autoregressive sampling meets
//! them, with clean blocks before the one that is being filled and masks behind it.

use demask_api::{BlockNoise, Sequence, Task};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A noised sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Noised {
    /// Token ids with the mask token where masked.
    pub ids: Vec<u32>,
    /// The masked positions that are learnt, ascending.
    pub positions: Vec<usize>,
    /// The probability of a position to be among them (its share, for pictures).
    pub p: f64,
}

/// The generator of one row.
#[must_use]
pub fn row_rng(seed: u64, row: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(row as u64 + 1);
    rng
}

/// The stratified time of a row in [0, 1).
#[must_use]
pub fn time(seed: u64, row: usize, rows: usize) -> f64 {
    let start: f64 = ChaCha8Rng::seed_from_u64(seed).random();
    (start + row as f64 / rows.max(1) as f64).fract()
}

/// Noises row `row` of `rows`.
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

/// One block of the answer, uniformly chosen, masked in part; what is behind it is masked too but not learnt.
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

/// The share of `length` positions that is masked at time `u`: 1 to all of them, each as likely.
fn masked_share(u: f64, length: usize) -> f64 {
    let masked = (u * length as f64).floor() + 1.0;
    (masked / length.max(1) as f64).min(1.0)
}

/// The ids with the mask token at the positions.
#[must_use]
pub fn masked(ids: &[u32], positions: &[usize], mask_token: u32) -> Vec<u32> {
    let mut ids = ids.to_vec();
    for &at in positions {
        ids[at] = mask_token;
    }
    ids
}

/// `max(1, round(n * ratio))` of the positions, uniformly, ascending.
fn choose(answer: &[usize], ratio: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = ((answer.len() as f64 * ratio).round() as usize).clamp(1.min(answer.len()), answer.len());
    let mut ranked: Vec<(f64, usize)> = answer.iter().map(|&at| (rng.random(), at)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut positions: Vec<usize> = ranked.into_iter().take(count).map(|(_, at)| at).collect();
    positions.sort_unstable();
    positions
}
