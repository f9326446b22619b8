//! The masked views of an answer, and how their log-probabilities become one number with its standard error.
//!
//! Legend: l tokens of the answer; g(m) the mean, over the sets of m masked positions, of the mean log-probability of the masked
//! tokens. What is estimated is g(1) + … + g(l), which is LLaDA's equation 6 ((l / m) times a sum of m terms, averaged over l
//! counts).

use std::collections::HashMap;

/// A masked view of an answer: what is hidden, and of what the log-probability counts. Positions are the answer's own, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMask {
    /// The masked positions, ascending.
    pub masked: Vec<usize>,
    /// Those of them that count, ascending, at least one.
    pub counted: Vec<usize>,
}

/// The distinct views of an answer, and what is made of them.
#[derive(Clone, Debug, Default)]
pub struct ViewDesign {
    masks: Vec<AnswerMask>,
    strata: Vec<Stratum>,
    /// The view with all positions masked, where it serves as a control variate.
    control: Option<usize>,
    known: HashMap<Vec<usize>, usize>,
}

/// A part of the sum: `factor` times the mean of its units.
#[derive(Clone, Debug)]
struct Stratum {
    factor: f64,
    /// Independent draws: the views of each, as places among the masks, whose mean is the draw's value.
    units: Vec<Vec<usize>>,
    /// The share of the draws' variance that is left: 1 where they were drawn with replacement, 0 where they are all there are.
    left: f64,
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
            left: 0.0,
        });
    }

    /// Adds a part that is estimated: `factor` times the mean over independent draws, of whose variance the share `left` is
    /// left.
    pub(super) fn sampled(&mut self, factor: f64, units: Vec<Vec<usize>>, left: f64) {
        self.strata.push(Stratum { factor, units, left });
    }

    /// Takes the view with all positions masked as the control variate of all others.
    pub(super) fn control_by(&mut self, view: usize) {
        self.control = Some(view);
    }

    /// The value and its standard error, from the log-probabilities of each view's counted tokens, in the views' order. The
    /// standard error is 0 where nothing was drawn, absent where a part was drawn only once.
    #[must_use]
    pub fn estimate(&self, log_probs: &[Vec<f64>]) -> (f64, Option<f64>) {
        let values: Vec<f64> = (0..self.masks.len())
            .map(|view| self.value(view, log_probs))
            .collect();
        let (mut sum, mut variance) = (0.0, Some(0.0));
        for stratum in &self.strata {
            let units: Vec<f64> = stratum
                .units
                .iter()
                .map(|views| mean(views.iter().map(|&view| values[view])))
                .collect();
            let centre = mean(units.iter().copied());
            sum += stratum.factor * centre;
            if stratum.left > 0.0 {
                let count = units.len() as f64;
                let squares: f64 = units.iter().map(|unit| (unit - centre).powi(2)).sum();
                let own = stratum.left * squares / (count - 1.0) / count;
                let own = (units.len() > 1).then_some(stratum.factor.powi(2) * own);
                variance = variance.zip(own).map(|(all, own)| all + own);
            }
        }
        (sum, variance.map(f64::sqrt))
    }

    /// The mean log-probability of a view's counted tokens, less what the control variate has there, plus its mean over all.
    fn value(&self, view: usize, log_probs: &[Vec<f64>]) -> f64 {
        let own = mean(log_probs[view].iter().copied());
        let Some(control) = self.control else {
            return own;
        };
        let all = &log_probs[control];
        let there = mean(self.masks[view].counted.iter().map(|&at| all[at]));
        own - there + mean(all.iter().copied())
    }
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
