//! Replicates: independent draws of a whole design. Each is corrected with a linear model that is fitted on the others.

use super::answer_mask::AnswerMask;
use super::surrogate::Surrogate;

/// The replicates of a design.
#[derive(Clone, Debug)]
pub(super) struct Replicates {
    /// The index of the view that masks the whole answer.
    pub alone: usize,
    /// The replicates. Each gives an unbiased estimate by itself.
    pub draws: Vec<Replicate>,
}

/// The views of a replicate, each with its weight in the sum over counts.
pub(super) type Replicate = Vec<(f64, usize)>;

impl Replicates {
    /// Computes the value of each replicate from the log-probabilities of each view's tokens.
    ///
    /// A value is the exact sum of the surrogate over all counts, plus the weighted differences between the network and
    /// the surrogate on the replicate's views.
    pub fn values(&self, masks: &[AnswerMask], log_probs: &[Vec<f64>]) -> Vec<f64> {
        let alone = &log_probs[self.alone];
        let masked = |view: usize| masks[view].masked.as_slice();
        let value = |number: usize| {
            let others = self
                .draws
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != number);
            let views = others.flat_map(|(_, draws)| draws);
            let views = views.map(|&(_, view)| (masked(view), log_probs[view].as_slice()));
            let surrogate = Surrogate::fit(alone, views);
            let known: f64 = (1..=alone.len()).map(|count| surrogate.mean(count)).sum();
            let off = |&(weight, view): &(f64, usize)| {
                let own = &log_probs[view];
                let found = own.iter().sum::<f64>() / own.len() as f64;
                weight * (found - surrogate.view(masked(view)))
            };
            known + self.draws[number].iter().map(off).sum::<f64>()
        };
        (0..self.draws.len()).map(value).collect()
    }
}
