//! The reward `length`: a guard against exploiting other rewards with long texts.

use super::{Evidence, Reward};

/// The reward `length`.
#[derive(Clone, Copy, Debug)]
pub struct Length;

impl Reward for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn about(&self) -> &'static str {
        "1 up to three quarters of the maximum length, then falling to 0 at the maximum"
    }

    fn default_weight(&self) -> f64 {
        0.1
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let case = evidence.case()?;
        let soft = case.budget.saturating_sub(case.budget / 4);
        case.has_text()
            .then(|| length(case.completion.tokens, soft, case.budget))
    }
}

/// Returns 1 up to `soft` tokens, falling linearly to 0 at `hard`.
#[must_use]
pub fn length(tokens: usize, soft: usize, hard: usize) -> f64 {
    if tokens <= soft {
        return 1.0;
    }
    let over = (tokens - soft) as f64 / hard.saturating_sub(soft).max(1) as f64;
    (1.0 - over).max(0.0)
}
