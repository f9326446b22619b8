//! Bootstrap intervals of results over a whole set: the set is resampled from its own items.
//!
//! An F1, a score of pairs or a mean over unequal parts has no closed-form interval; the percentile bootstrap gives one
//! for any of them (Efron and Tibshirani, 1993, chapter 13). Items of a group are drawn together. The seed is fixed, so
//! results are reproducible.

use crate::scorers::twister::Twister;

/// The number of resampled sets.
const DRAWS: usize = 400;
/// The seed.
const SEED: u64 = 1;

/// Computes the 2.5 % and 97.5 % quantiles of `figure` over sets resampled from `count` groups; `figure` gets the
/// indices of the drawn groups. `None` for fewer than two groups.
pub(super) fn interval(count: usize, figure: impl Fn(&[usize]) -> f64) -> Option<(f64, f64)> {
    if count < 2 {
        return None;
    }
    let mut random = Twister::new(SEED);
    let mut figures: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..count).map(|_| random.below(count)).collect();
            figure(&drawn)
        })
        .filter(|figure| figure.is_finite())
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| {
        figures
            .get((share * (figures.len().saturating_sub(1)) as f64).round() as usize)
            .copied()
    };
    Some((at(0.025)?, at(0.975)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_share_has_the_interval_of_the_normal_law() {
        let right: Vec<f64> = (0..1000).map(|at| f64::from(u8::from(at % 4 == 0))).collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|at| right[*at]).sum::<f64>() / drawn.len() as f64;
        let (low, high) = interval(1000, mean).unwrap();
        let half = 1.96 * (0.25_f64 * 0.75 / 1000.0).sqrt();
        assert!((low - (0.25 - half)).abs() < 0.006, "{low}");
        assert!((high - (0.25 + half)).abs() < 0.006, "{high}");
        assert_eq!(interval(1, mean), None);
    }
}
