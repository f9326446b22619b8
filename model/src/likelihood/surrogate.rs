//! The surrogate: a linear model of an answer's log-probabilities, which serves as a control variate. Its mean over all
//! masks is known exactly, so only the difference between the network and the surrogate is estimated by sampling.
//!
//! The model predicts the log-probability of token i under a mask as its value with the whole answer masked, plus an
//! effect w(i, j) of each visible token j. The effects are fitted by ridge regression: an effect that is common to all
//! visible tokens is fitted first, and the deviations of the single tokens from it are shrunk by the penalty. Because
//! the model is fitted on other draws than it corrects, the correction has no bias, however bad the fit (regression
//! estimators of survey sampling; Särndal, Swensson and Wretman, 1992, chapter 6). Legend: l tokens of the answer.

/// The longest answer whose effects are fitted. The fit solves l systems with an l × l matrix.
const LONGEST: usize = 64;
/// The ridge penalty: the weight of a squared effect relative to a squared error.
const PENALTY: f64 = 2.0;

/// The linear model of one answer.
#[derive(Clone, Debug)]
pub(super) struct Surrogate<'a> {
    /// The log-probability of each token with the whole answer masked.
    alone: &'a [f64],
    /// The effect of a visible token j on token i, at index i · l + j.
    effects: Vec<f64>,
}

impl<'a> Surrogate<'a> {
    /// Fits the effects to masked views and the log-probabilities of their masked tokens.
    pub fn fit<'v>(alone: &'a [f64], views: impl Iterator<Item = (&'v [usize], &'v [f64])>) -> Self {
        let length = alone.len();
        let mut effects = vec![0.0; length * length];
        if length <= LONGEST {
            let mut sums: Vec<Normal> = (0..length).map(|_| Normal::new(length)).collect();
            for (masked, log_probs) in views {
                let seen = seen(length, masked);
                for (&at, log_prob) in masked.iter().zip(log_probs) {
                    sums[at].add(&seen, log_prob - alone[at]);
                }
            }
            for (at, sums) in sums.into_iter().enumerate() {
                effects[at * length..(at + 1) * length].copy_from_slice(&sums.effects(at));
            }
        }
        Self { alone, effects }
    }

    /// Predicts the mean log-probability of a view's masked tokens.
    pub fn view(&self, masked: &[usize]) -> f64 {
        let seen = seen(self.alone.len(), masked);
        let token = |&at: &usize| {
            let effects = self.effects_on(at);
            self.alone[at] + seen.iter().map(|&other| effects[other]).sum::<f64>()
        };
        masked.iter().map(token).sum::<f64>() / masked.len() as f64
    }

    /// Returns the mean of [`Self::view`] over all sets of `count` masked positions.
    pub fn mean(&self, count: usize) -> f64 {
        let length = self.alone.len();
        // The probability that a given other token is visible.
        let share = (length - count) as f64 / (length - 1).max(1) as f64;
        let all: f64 = self.alone.iter().sum::<f64>() + share * self.effects.iter().sum::<f64>();
        all / length as f64
    }

    fn effects_on(&self, at: usize) -> &[f64] {
        let length = self.alone.len();
        &self.effects[at * length..(at + 1) * length]
    }
}

/// Returns the positions that are not masked.
fn seen(length: usize, masked: &[usize]) -> Vec<usize> {
    let mut hidden = vec![false; length];
    masked.iter().for_each(|&at| hidden[at] = true);
    (0..length).filter(|&at| !hidden[at]).collect()
}

/// The normal equations of one token's effects.
struct Normal {
    length: usize,
    /// For each pair of tokens, the number of views in which both were visible, l × l.
    together: Vec<f64>,
    /// For each token, the sum of the residuals of the views in which it was visible, l.
    found: Vec<f64>,
}

impl Normal {
    fn new(length: usize) -> Self {
        Self {
            length,
            together: vec![0.0; length * length],
            found: vec![0.0; length],
        }
    }

    fn add(&mut self, seen: &[usize], found: f64) {
        for &one in seen {
            self.found[one] += found;
            for &other in seen {
                self.together[one * self.length + other] += 1.0;
            }
        }
    }

    /// Solves for the effects on token `at`: the common effect of all visible tokens plus the deviation of each.
    fn effects(mut self, at: usize) -> Vec<f64> {
        let length = self.length;
        let all: f64 = self.together.iter().sum();
        let common = self.found.iter().sum::<f64>() / (all + PENALTY);
        for one in 0..length {
            let row = &self.together[one * length..(one + 1) * length];
            self.found[one] -= common * row.iter().sum::<f64>();
        }
        for one in 0..length {
            self.together[one * length + one] += PENALTY;
        }
        let mut effects = solved(self.together, self.found);
        let others = effects.iter_mut().enumerate().filter(|(other, _)| *other != at);
        others.for_each(|(_, effect)| *effect += common);
        effects
    }
}

/// Solves a symmetric positive definite system by Cholesky decomposition.
fn solved(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let length = right.len();
    for column in 0..length {
        for row in column..length {
            let (head, tail) = (row * length, column * length);
            let known: f64 = (0..column).map(|at| matrix[head + at] * matrix[tail + at]).sum();
            let rest = matrix[head + column] - known;
            matrix[head + column] = if row == column {
                rest.max(f64::MIN_POSITIVE).sqrt()
            } else {
                rest / matrix[tail + column]
            };
        }
    }
    for row in 0..length {
        let known: f64 = (0..row).map(|at| matrix[row * length + at] * right[at]).sum();
        right[row] = (right[row] - known) / matrix[row * length + row];
    }
    for row in (0..length).rev() {
        let known: f64 = (row + 1..length)
            .map(|at| matrix[at * length + row] * right[at])
            .sum();
        right[row] = (right[row] - known) / matrix[row * length + row];
    }
    right
}
