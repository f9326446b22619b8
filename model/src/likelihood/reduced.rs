//! LLaDA's number with less variance from as many views, in four ways that leave no bias:
//!
//! - an answer of few tokens has all of its views computed, and no error;
//! - masked counts are strata, each with its share of the views; small counts, whose values scatter most, get more of them;
//! - the masked positions of a replicate's views are neighbours on a circle of all positions in a random order, each beginning
//!   where the one before ended: every position is masked about equally often, every set of positions is as likely;
//! - a linear model of the answer (`surrogate.rs`), fitted on the other replicates, stands for what it can tell.
//!
//! The standard error is that of the mean of the replicates.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::design::ViewDesign;
use super::exact::every_view;
use super::published::{self, permutation};
use super::replicates::{Replicate, Replicates};

/// Replicates: as many draws of the whole design.
const REPLICATES: usize = 4;
/// Views of a replicate at least.
const LEAST: usize = 2;

/// At most so many views: all of them where there are no more.
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

/// Some views that stand for all counts but that of everything masked.
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

/// How much the values of views with so many masked tokens scatter, as if tokens differed by themselves alone: a mean of
/// `count` out of `length` without replacement.
fn scatter(count: f64, length: usize) -> f64 {
    (1.0 / count - 1.0 / length as f64 + 1e-3).max(0.0).sqrt()
}

/// The counts 1..length in at most so many ranges: each count by itself where there are enough, else ranges that scatter alike.
fn strata(length: usize, most: usize) -> Vec<(usize, usize)> {
    let most = most.min(length - 1);
    let all: f64 = (1..length).map(|count| scatter(count as f64, length)).sum();
    let (mut strata, mut first, mut sum) = (Vec::with_capacity(most), 1, 0.0);
    for count in 1..length {
        sum += scatter(count as f64, length);
        let number = strata.len() + 1;
        let (left, behind) = (most - number, length - 1 - count);
        // As many counts as strata are left: one each.
        if left > 0 && (sum >= all * number as f64 / most as f64 || behind == left) {
            strata.push((first, count + 1));
            first = count + 1;
        }
    }
    strata.push((first, length));
    strata
}

/// How many views each stratum gets, at least one: what makes the variance of the sum least (Neyman's allocation).
fn shares(length: usize, strata: &[(usize, usize)], views: usize) -> Vec<usize> {
    let weight = |&(first, end): &(usize, usize)| {
        let middle = (first + end - 1) as f64 / 2.0;
        ((end - first) as f64 * scatter(middle, length)).powi(2)
    };
    let weights: Vec<f64> = strata.iter().map(weight).collect();
    let mut shares = vec![1; strata.len()];
    for _ in strata.len()..views {
        // What one more view takes off a stratum's variance.
        let gain = |at: &usize| weights[*at] / (shares[*at] * (shares[*at] + 1)) as f64;
        let best = (0..strata.len()).max_by(|one, other| gain(one).total_cmp(&gain(other)));
        if let Some(best) = best {
            shares[best] += 1;
        }
    }
    shares
}
