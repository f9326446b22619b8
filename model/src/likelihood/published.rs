//! LLaDA's draws (`_forward_process` and `get_loglikelihood` of its `eval_llada.py`; MMaDA's are the same).
//!
//! A batch of b views has one random start k, uniform in 1..=l; the masked counts lie l / b apart from there on, rounded in f32
//! to the even neighbour where they lie half way, and begin again at 1 behind l. Of each view that many positions, uniform, are
//! masked. The batch's value is the mean over its views of (l / x) times the sum of the masked tokens' log-probabilities; the
//! estimate is the mean over batches.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::design::ViewDesign;

/// The views of `samples / batch` batches. With one batch alone the standard error is that of its views, which were not drawn
/// independently: it is too large then.
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

/// The masked counts of a batch that starts at `start`, as `torch.round(torch.linspace(...))` has them.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn counts(start: usize, length: usize, batch: usize) -> Vec<usize> {
    let end = start as f64 + (batch - 1) as f64 * (length as f64 / batch as f64);
    let (first, last) = (start as f32, end as f32);
    let step = (last - first) / (batch - 1).max(1) as f32;
    let spread = |at: usize| {
        // torch counts from the nearer end.
        if at < batch / 2 || batch == 1 {
            first + step * at as f32
        } else {
            last - step * (batch - 1 - at) as f32
        }
    };
    let count = |at: usize| (spread(at).round_ties_even() as usize - 1) % length + 1;
    (0..batch).map(count).collect()
}

/// So many of `length` positions, uniform.
fn positions(length: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all = permutation(length, rng);
    all.truncate(count);
    all
}

/// The positions in a uniform order.
pub(super) fn permutation(length: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..length).collect();
    for at in (1..length).rev() {
        all.swap(at, rng.random_range(0..=at));
    }
    all
}
