//! The design of an estimate: the masked views of an answer, and the rule that turns their log-probabilities into one
//! number with a standard error.
//!
//! Legend: l tokens of the answer; g(m) the mean, over all sets of m masked positions, of the mean log-probability of
//! the masked tokens. The estimated number is g(1) + … + g(l). It equals LLaDA's equation 6, (l / m) times a sum of m
//! terms, averaged over the l counts.

use std::collections::HashMap;

use super::answer_mask::AnswerMask;
use super::replicates::Replicates;

/// The distinct views of an answer, and the rule that combines them.
#[derive(Clone, Debug, Default)]
pub struct ViewDesign {
    masks: Vec<AnswerMask>,
    strata: Vec<Stratum>,
    /// The replicates of the estimate, in place of strata.
    replicates: Option<Replicates>,
    known: HashMap<Vec<usize>, usize>,
}

/// A term of the sum: `factor` times the mean of its units.
#[derive(Clone, Debug)]
struct Stratum {
    factor: f64,
    /// The independent draws. Each is a list of views, as indices into the masks, and its value is the mean of its
    /// views.
    units: Vec<Vec<usize>>,
    /// Whether the units are the whole population, so that the term has no sampling error.
    is_exact: bool,
}

impl ViewDesign {
    /// Returns the views to compute. A view that was drawn several times is listed once.
    #[must_use]
    pub fn masks(&self) -> &[AnswerMask] {
        &self.masks
    }

    /// Returns the index of the view with these positions masked, adding it if it is new. All its positions count.
    pub(super) fn view(&mut self, mut masked: Vec<usize>) -> usize {
        masked.sort_unstable();
        if let Some(&known) = self.known.get(&masked) {
            return known;
        }
        self.known.insert(masked.clone(), self.masks.len());
        self.single(AnswerMask {
            counted: masked.clone(),
            masked,
        })
    }

    /// Adds a view that equals no other, and returns its index.
    pub(super) fn single(&mut self, mask: AnswerMask) -> usize {
        self.masks.push(mask);
        self.masks.len() - 1
    }

    /// Adds a term without sampling error: `factor` times the mean over these views.
    pub(super) fn exact(&mut self, factor: f64, views: Vec<usize>) {
        self.strata.push(Stratum {
            factor,
            units: vec![views],
            is_exact: true,
        });
    }

    /// Adds an estimated term: `factor` times the mean over independent draws.
    pub(super) fn sampled(&mut self, factor: f64, units: Vec<Vec<usize>>) {
        self.strata.push(Stratum {
            factor,
            units,
            is_exact: false,
        });
    }

    /// Sets replicates of the whole design in place of strata.
    pub(super) fn replicated(&mut self, replicates: Replicates) {
        self.replicates = Some(replicates);
    }

    /// Computes the value and its standard error from the log-probabilities of each view's counted tokens, in the order
    /// of the views. The standard error is 0 if nothing was drawn at random, and `None` if a term has only one draw.
    #[must_use]
    pub fn estimate(&self, log_probs: &[Vec<f64>]) -> (f64, Option<f64>) {
        if let Some(replicates) = &self.replicates {
            let (value, variance) = of_draws(&replicates.values(&self.masks, log_probs));
            return (value, variance.map(f64::sqrt));
        }
        let (mut sum, mut variance) = (0.0, Some(0.0));
        for stratum in &self.strata {
            let view = |&view: &usize| mean(log_probs[view].iter().copied());
            let units = stratum.units.iter().map(|views| mean(views.iter().map(view)));
            let (centre, own) = of_draws(&units.collect::<Vec<_>>());
            sum += stratum.factor * centre;
            if !stratum.is_exact {
                let pair = variance.zip(own);
                variance = pair.map(|(all, own)| all + stratum.factor.powi(2) * own);
            }
        }
        (sum, variance.map(f64::sqrt))
    }
}

/// Returns the mean of independent draws, and the variance of that mean if there are at least two.
fn of_draws(draws: &[f64]) -> (f64, Option<f64>) {
    let (centre, count) = (mean(draws.iter().copied()), draws.len() as f64);
    let squares: f64 = draws.iter().map(|draw| (draw - centre).powi(2)).sum();
    let variance = squares / (count - 1.0) / count;
    (centre, (draws.len() > 1).then_some(variance))
}

/// Returns the mean of the numbers.
fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for number in numbers {
        sum += number;
        count += 1.0;
    }
    sum / count
}
