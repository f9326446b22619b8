//! The masked views of an answer, and how their log-probabilities become one number with its standard error.
//!
//! Legend: l tokens of the answer; g(m) the mean, over the sets of m masked positions, of the mean log-probability of the masked
//! tokens. What is estimated is g(1) + … + g(l), which is LLaDA's equation 6 ((l / m) times a sum of m terms, averaged over l
//! counts).

use std::collections::HashMap;

use super::answer_mask::AnswerMask;
use super::replicates::Replicates;

/// The distinct views of an answer, and what is made of them.
#[derive(Clone, Debug, Default)]
pub struct ViewDesign {
    masks: Vec<AnswerMask>,
    strata: Vec<Stratum>,
    /// In place of strata.
    replicates: Option<Replicates>,
    known: HashMap<Vec<usize>, usize>,
}

/// A part of the sum: `factor` times the mean of its units.
#[derive(Clone, Debug)]
struct Stratum {
    factor: f64,
    /// Independent draws: the views of each, as places among the masks, whose mean is the draw's value.
    units: Vec<Vec<usize>>,
    /// Whether they are all there are: nothing was drawn.
    is_exact: bool,
}

impl ViewDesign {
    /// The views to compute, each once however often it was drawn.
    #[must_use]
    pub fn masks(&self) -> &[AnswerMask] {
        &self.masks
    }

    /// The place of the view with these positions masked, all of which count.
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

    /// The place of a view that is like no other.
    pub(super) fn single(&mut self, mask: AnswerMask) -> usize {
        self.masks.push(mask);
        self.masks.len() - 1
    }

    /// Adds a part that is known without error: `factor` times the mean over these views.
    pub(super) fn exact(&mut self, factor: f64, views: Vec<usize>) {
        self.strata.push(Stratum {
            factor,
            units: vec![views],
            is_exact: true,
        });
    }

    /// Adds a part that is estimated: `factor` times the mean over independent draws.
    pub(super) fn sampled(&mut self, factor: f64, units: Vec<Vec<usize>>) {
        self.strata.push(Stratum {
            factor,
            units,
            is_exact: false,
        });
    }

    /// Takes draws of the whole in place of parts.
    pub(super) fn replicated(&mut self, replicates: Replicates) {
        self.replicates = Some(replicates);
    }

    /// The value and its standard error, from the log-probabilities of each view's counted tokens, in the views' order. The
    /// standard error is 0 where nothing was drawn, absent where a part was drawn only once.
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

/// The mean of independent draws, and the variance of that mean where there are at least two.
fn of_draws(draws: &[f64]) -> (f64, Option<f64>) {
    let (centre, count) = (mean(draws.iter().copied()), draws.len() as f64);
    let squares: f64 = draws.iter().map(|draw| (draw - centre).powi(2)).sum();
    let variance = squares / (count - 1.0) / count;
    (centre, (draws.len() > 1).then_some(variance))
}

/// The mean of some numbers.
fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for number in numbers {
        sum += number;
        count += 1.0;
    }
    sum / count
}
