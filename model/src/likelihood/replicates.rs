//! Independent draws of a whole design, each corrected by what a model fitted on the others can tell.

use super::answer_mask::AnswerMask;
use super::surrogate::Surrogate;

/// Independent draws of the whole design.
#[derive(Clone, Debug)]
pub(super) struct Replicates {
    /// The view with everything masked.
    pub alone: usize,
    /// Each by itself has no bias.
    pub draws: Vec<Replicate>,
}

/// Views and what each weighs in the sum over counts.
pub(super) type Replicate = Vec<(f64, usize)>;

impl Replicates {
    /// The value of each replicate, from the log-probabilities of each view's tokens.
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
