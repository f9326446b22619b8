//! Credit for tokens that earlier steps guessed (dInfer's credit decoding, `peers.md` B.3).

use std::collections::BTreeMap;

use demask_api::Credit;

/// The credits of the positions of a target.
#[derive(Debug)]
pub struct Credits {
    settings: Credit,
    /// For each target position, the tokens with credit and how much each has.
    held: BTreeMap<usize, BTreeMap<u32, f64>>,
}

impl Credits {
    /// Creates credits without any entry.
    #[must_use]
    pub fn new(settings: Credit) -> Self {
        Self {
            settings,
            held: BTreeMap::new(),
        }
    }

    /// Updates the credits of a position for one step: all of them decay, then `guess` earns `probability ^ power`.
    pub fn earn(&mut self, at: usize, guess: u32, probability: f64) {
        let held = self.held.entry(at).or_default();
        for credit in held.values_mut() {
            *credit *= self.settings.decay;
        }
        *held.entry(guess).or_default() += probability.powf(self.settings.power);
    }

    /// Returns the amount by which the logit of each token with credit is raised: `weight * ln(1 + credit)`.
    pub fn raises(&self, at: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let held = self.held.get(&at).into_iter().flatten();
        #[allow(clippy::cast_possible_truncation)]
        held.map(|(&token, credit)| (token, (self.settings.weight * credit.ln_1p()) as f32))
    }

    /// Removes the credits of a position, once its token is committed.
    pub fn forget(&mut self, at: usize) {
        self.held.remove(&at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_that_lasts_earns_and_a_lost_one_fades() {
        let mut credits = Credits::new(Credit {
            weight: 1.0,
            decay: 0.5,
            power: 1.0,
        });
        for (guess, probability) in [(3, 0.5), (3, 0.5), (4, 0.25)] {
            credits.earn(7, guess, probability);
        }
        let raises: Vec<(u32, f32)> = credits.raises(7).collect();
        assert_eq!(
            raises,
            [(3, 0.375f64.ln_1p() as f32), (4, 0.25f64.ln_1p() as f32)]
        );
        assert_eq!(credits.raises(8).count(), 0);
        credits.forget(7);
        assert_eq!(credits.raises(7).count(), 0);
    }
}
