//! LLaDA's estimator (`_forward_process` and `get_loglikelihood` of its `eval_llada.py`; MMaDA's are the same).
//!
//! A batch of b views has one random start k, uniform in 1..=l. From there on the masked counts of its views lie l / b
//! apart, rounded in f32 with ties to even, and wrap around from l to 1. A view with count x masks x positions, chosen
//! uniformly. The value of a batch is the mean over its views of (l / x) times the sum of the masked tokens'
//! log-probabilities. The estimate is the mean over batches.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::design::ViewDesign;

/// Plans the views of `samples / batch` batches.
///
/// With a single batch, the standard error is computed from its views as if they were independent. They are not, and
/// the standard error is then too large.
pub(super) fn design(length: usize, samples: usize, batch: usize, rng: &mut ChaCha8Rng) -> ViewDesign {
    let mut design = ViewDesign::default();
    let mut units: Vec<Vec<usize>> = (0..samples / batch)
        .map(|_| {
            let counts = counts(rng.random_range(1..=length), length, batch);
            let drawn = counts.into_iter().map(|count| positions(length, count, rng));
            drawn.map(|masked| design.view(masked)).collect()
        })
        .collect();
    if let [only] = units.as_slice() {
        units = only.iter().map(|&view| vec![view]).collect();
    }
    design.sampled(length as f64, units);
    design
}

/// Returns the masked counts of a batch that starts at `start`, equal to `torch.round(torch.linspace(...))`.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn counts(start: usize, length: usize, batch: usize) -> Vec<usize> {
    let end = start as f64 + (batch - 1) as f64 * (length as f64 / batch as f64);
    let (first, last) = (start as f32, end as f32);
    let step = (last - first) / (batch - 1).max(1) as f32;
    let spread = |at: usize| {
        // `torch.linspace` computes each half from its nearer end.
        if at < batch / 2 || batch == 1 {
            first + step * at as f32
        } else {
            last - step * (batch - 1 - at) as f32
        }
    };
    let count = |at: usize| (spread(at).round_ties_even() as usize - 1) % length + 1;
    (0..batch).map(count).collect()
}

/// Draws `count` of `length` positions uniformly.
fn positions(length: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all = permutation(length, rng);
    all.truncate(count);
    all
}

/// Draws a uniform permutation of the positions.
pub(super) fn permutation(length: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..length).collect();
    for at in (1..length).rev() {
        all.swap(at, rng.random_range(0..=at));
    }
    all
}
