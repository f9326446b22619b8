//! An estimator of the same number as LLaDA's (`published.rs`), with less variance for as many views. Its four methods
//! introduce no bias:
//!
//! - Short answers: if an answer has no more views than the budget, all are computed, and there is no sampling error.
//! - Stratification: the masked counts are strata, each with its share of the views. Small counts, whose values scatter
//!   most, get more views.
//! - Balanced masks: the positions are put on a circle in a random order, and each view of a replicate masks the next
//!   arc of it. Every position is then masked about equally often, and every set of positions is equally likely.
//! - Control variate: a linear model of the answer (`surrogate.rs`), fitted on the other replicates, predicts each
//!   view, and only its errors are estimated by sampling.
//!
//! The standard error is that of the mean of the replicates.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::design::ViewDesign;
use super::exact::every_view;
use super::published::{self, permutation};
use super::replicates::{Replicate, Replicates};

/// The number of replicates: independent draws of the whole design.
const REPLICATES: usize = 4;
/// The least number of views of a replicate.
const LEAST: usize = 2;

/// Plans at most `samples` views. They are all views of the answer, if it has no more.
pub(super) fn design(length: usize, samples: usize, rng: &mut ChaCha8Rng) -> ViewDesign {
    if length < 20 && (1 << length) - 1 <= samples {
        return every_view(length);
    }
    if samples <= REPLICATES * LEAST {
        return published::design(length, samples, 1, rng);
    }
    let mut design = ViewDesign::default();
    let alone = design.view((0..length).collect());
    let left = samples - 1;
    let draws = (0..REPLICATES)
        .map(|number| {
            let views = left / REPLICATES + usize::from(number < left % REPLICATES);
            replicate(length, views, &mut design, rng)
        })
        .collect();
    design.replicated(Replicates { alone, draws });
    design
}

/// Draws the views of a replicate, for every masked count except that of the fully masked answer.
fn replicate(length: usize, views: usize, design: &mut ViewDesign, rng: &mut ChaCha8Rng) -> Replicate {
    let strata = strata(length, views);
    let shares = shares(length, &strata, views);
    let order = permutation(length, rng);
    let (mut replicate, mut begin) = (Vec::with_capacity(views), 0);
    for ((first, end), share) in strata.into_iter().zip(shares) {
        for _ in 0..share {
            let count = rng.random_range(first..end);
            let masked = (begin..begin + count).map(|at| order[at % length]).collect();
            begin += count;
            replicate.push(((end - first) as f64 / share as f64, design.view(masked)));
        }
    }
    replicate
}

/// Estimates the standard deviation of the value of a view with `count` masked tokens, up to a factor. It is that of
/// the mean of `count` out of `length` numbers drawn without replacement, as if the log-probability of a token did not
/// depend on the mask.
fn scatter(count: f64, length: usize) -> f64 {
    (1.0 / count - 1.0 / length as f64 + 1e-3).max(0.0).sqrt()
}

/// Divides the counts 1..length into at most `most` ranges. Each count has its own range if there are enough; otherwise
/// the ranges have about equal sums of [`scatter`].
fn strata(length: usize, most: usize) -> Vec<(usize, usize)> {
    let most = most.min(length - 1);
    let all: f64 = (1..length).map(|count| scatter(count as f64, length)).sum();
    let (mut strata, mut first, mut sum) = (Vec::with_capacity(most), 1, 0.0);
    for count in 1..length {
        sum += scatter(count as f64, length);
        let number = strata.len() + 1;
        let (left, behind) = (most - number, length - 1 - count);
        // When as many counts as strata are left, each count becomes a stratum.
        if left > 0 && (sum >= all * number as f64 / most as f64 || behind == left) {
            strata.push((first, count + 1));
            first = count + 1;
        }
    }
    strata.push((first, length));
    strata
}

/// Divides the views among the strata, at least one each, to minimise the variance of the sum (Neyman's allocation).
fn shares(length: usize, strata: &[(usize, usize)], views: usize) -> Vec<usize> {
    let weight = |&(first, end): &(usize, usize)| {
        let middle = (first + end - 1) as f64 / 2.0;
        ((end - first) as f64 * scatter(middle, length)).powi(2)
    };
    let weights: Vec<f64> = strata.iter().map(weight).collect();
    let mut shares = vec![1; strata.len()];
    for _ in strata.len()..views {
        // The decrease of a stratum's variance by one more view.
        let gain = |at: &usize| weights[*at] / (shares[*at] * (shares[*at] + 1)) as f64;
        let best = (0..strata.len()).max_by(|one, other| gain(one).total_cmp(&gain(other)));
        if let Some(best) = best {
            shares[best] += 1;
        }
    }
    shares
}
