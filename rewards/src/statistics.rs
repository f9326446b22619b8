//! Proportions, means and paired differences with their 95 % intervals.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantile of the standard normal distribution.
pub const Z: f64 = 1.959_963_985;

/// A value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A mean of real numbers with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The lower end; `None` for a single number, which has no spread.
    pub low: Option<f64>,
    /// The upper end; `None` for a single number.
    pub high: Option<f64>,
    /// The count of numbers.
    pub n: usize,
}

/// Computes the mean of numbers with an interval by their standard error and the normal distribution, like
/// [`mean_of_shares`]; `None` without numbers.
#[must_use]
pub fn mean(numbers: &[f64]) -> Option<Mean> {
    let n = numbers.len();
    if n == 0 {
        return None;
    }
    let value = numbers.iter().sum::<f64>() / n as f64;
    let squares = numbers.iter().map(|number| (number - value).powi(2)).sum::<f64>();
    let half = (n > 1).then(|| Z * (squares / ((n - 1) as f64 * n as f64)).sqrt());
    Some(Mean {
        value,
        low: half.map(|half| value - half),
        high: half.map(|half| value + half),
        n,
    })
}

/// Computes the mean of a few normally distributed numbers, such as several seeds, with an interval by Student's t.
#[must_use]
pub fn mean_by_t(numbers: &[f64]) -> Option<Mean> {
    let mean = mean(numbers)?;
    let scale = student_t(mean.n.saturating_sub(1)) / Z;
    let half = mean.high.map(|high| (high - mean.value) * scale);
    Some(Mean {
        low: half.map(|half| mean.value - half),
        high: half.map(|half| mean.value + half),
        ..mean
    })
}

/// Computes the 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom; infinite with none.
#[must_use]
pub fn student_t(freedom: usize) -> f64 {
    if freedom == 0 {
        return f64::INFINITY;
    }
    // The quantile lies between that of the normal distribution and that of one degree of freedom, 12.7.
    let (mut low, mut high) = (1.9, 13.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if within(middle, freedom) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Computes the probability of |T| ≤ t by Abramowitz and Stegun 26.7.3 and 26.7.4.
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    // cos + 2/3 cos^3 + …, or 1 + 1/2 cos^2 + 1·3/(2·4) cos^4 + …
    let (mut term, mut number) = if is_odd { (cosine, 1.0) } else { (1.0, 0.0) };
    let mut sum = 0.0;
    for _ in 0..freedom / 2 {
        sum += term;
        term *= (number + 1.0) / (number + 2.0) * cosine * cosine;
        number += 2.0;
    }
    match is_odd {
        true => std::f64::consts::FRAC_2_PI * (angle + sine * sum),
        false => sine * sum,
    }
}

/// A comparison of two results on the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The mean of the second's credit minus the first's, with its 95 % interval.
    pub difference: Interval,
    /// The number of items.
    pub n: usize,
    /// The number of items that only the first has right.
    pub only_first: usize,
    /// The number of items that only the second has right.
    pub only_second: usize,
    /// McNemar's exact two-sided p-value for these two counts, if both results were equally good.
    pub p: f64,
}

/// Compares two results on the same items: `first[i]` and `second[i]` are the credits, 0 to 1, of one item. The
/// interval is the normal one of the mean difference. `None` without items.
#[must_use]
pub fn paired(first: &[f64], second: &[f64]) -> Option<Paired> {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| b - a).collect();
    let mean = mean(&differences)?;
    let is_right = |credit: &f64| *credit >= 1.0;
    let only = |one: &[f64], other: &[f64]| {
        let both = one.iter().zip(other);
        both.filter(|(a, b)| is_right(a) && !is_right(b)).count()
    };
    let (only_first, only_second) = (only(first, second), only(second, first));
    Some(Paired {
        difference: Interval {
            value: mean.value,
            // A single difference has no spread, so its interval is the widest possible.
            low: mean.low.unwrap_or(-1.0),
            high: mean.high.unwrap_or(1.0),
        },
        n: mean.n,
        only_first,
        only_second,
        p: mcnemar(only_first, only_second),
    })
}

/// Computes McNemar's exact test: the two-sided probability that `a + b` fair coins split at least as unevenly.
#[must_use]
pub fn mcnemar(a: usize, b: usize) -> f64 {
    let (n, fewer) = (a + b, a.min(b));
    // log C(n, k) / 2^n, updated term by term because n may be thousands.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Computes a proportion with Wilson's interval; the interval is 0 to 1 if nothing was counted.
#[must_use]
pub fn share(right: usize, count: usize) -> Interval {
    if count == 0 {
        return Interval {
            value: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let (n, p) = (count as f64, right as f64 / count as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval {
        value: p,
        // The ends are set exactly; rounding would leave 3e-17.
        low: if right == 0 { 0.0 } else { (centre - half).max(0.0) },
        high: if right == count {
            1.0
        } else {
            (centre + half).min(1.0)
        },
    }
}

/// Computes the unweighted mean of the proportions of independent categories, with an interval by their summed
/// variances. Each variance is taken at the Wilson centre, so that a proportion of 0 or 1 has a variance too.
#[must_use]
pub fn mean_of_shares(shares: &[(usize, usize)]) -> Interval {
    let counted: Vec<&(usize, usize)> = shares.iter().filter(|(_, count)| *count > 0).collect();
    let k = counted.len() as f64;
    if counted.is_empty() {
        return Interval {
            value: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let value = counted
        .iter()
        .map(|(right, count)| *right as f64 / *count as f64)
        .sum::<f64>()
        / k;
    let variance: f64 = counted
        .iter()
        .map(|(right, count)| {
            let n = *count as f64 + Z * Z;
            let p = (*right as f64 + Z * Z / 2.0) / n;
            p * (1.0 - p) / n
        })
        .sum();
    let half = Z * variance.sqrt() / k;
    Interval {
        value,
        low: (value - half).max(0.0),
        high: (value + half).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_interval_holds_the_value(right in 0usize..200, more in 0usize..200) {
            let interval = share(right, right + more);
            prop_assert!(interval.low <= interval.value + 1e-12 && interval.value <= interval.high + 1e-12);
        }
    }

    #[test]
    fn students_t_matches_the_table() {
        for (freedom, point) in [
            (1, 12.7062),
            (2, 4.3027),
            (3, 3.1824),
            (4, 2.7764),
            (9, 2.2622),
            (30, 2.0423),
            (1000, 1.9623),
        ] {
            assert!(
                (student_t(freedom) - point).abs() < 1e-4,
                "{freedom}: {}",
                student_t(freedom)
            );
        }
        let mean = mean_by_t(&[1.0, 2.0, 3.0]).unwrap_or_else(|| unreachable!());
        // 4.3027 / sqrt(3).
        assert!((mean.high.unwrap_or(0.0) - 4.484_1).abs() < 1e-3, "{mean:?}");
        assert!(mean_by_t(&[1.0]).is_some_and(|one| one.low.is_none()) && mean_by_t(&[]).is_none());
    }

    #[test]
    fn mcnemar_matches_the_binomial() {
        // 2 * (1 + 6 + 15) / 64 of six coins, 2 and 4.
        assert!((mcnemar(2, 4) - 0.6875).abs() < 1e-12);
        assert!((mcnemar(0, 6) - 0.031_25).abs() < 1e-12);
        assert!((mcnemar(3, 3) - 1.0).abs() < 1e-12 && (mcnemar(0, 0) - 1.0).abs() < 1e-12);
        assert!(mcnemar(900, 1100) < 1e-4 && mcnemar(900, 1100) > 0.0);
    }

    #[test]
    fn a_paired_difference_knows_that_both_saw_the_same_items() {
        let (first, second) = ([1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]);
        let paired = paired(&first, &second).unwrap_or_else(|| unreachable!());
        assert_eq!((paired.n, paired.only_first, paired.only_second), (4, 0, 1));
        assert!((paired.difference.value - 0.25).abs() < 1e-12 && paired.difference.low < 0.0);
        assert!(super::paired(&[], &[]).is_none());
    }

    #[test]
    fn wilson_matches_the_textbook() {
        let interval = share(8, 10);
        assert!(
            (interval.low - 0.4902).abs() < 1e-3 && (interval.high - 0.9433).abs() < 1e-3,
            "{interval:?}"
        );
    }
}
