//! The reward `repetition`: a guard against exploiting other rewards by repetition.

use std::collections::HashSet;

use super::{Evidence, Reward};

/// The reward `repetition`.
#[derive(Clone, Copy, Debug)]
pub struct Repetition;

impl Reward for Repetition {
    fn name(&self) -> &'static str {
        "repetition"
    }

    fn about(&self) -> &'static str {
        "the share of distinct three-word runs in the text"
    }

    fn default_weight(&self) -> f64 {
        0.1
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let case = evidence.case()?;
        case.has_text().then(|| repetition(&case.completion.text))
    }
}

/// Computes the share of distinct three-word runs; 1 if nothing is repeated.
#[must_use]
pub fn repetition(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let runs = words.windows(3).count();
    if runs == 0 {
        return 1.0;
    }
    words.windows(3).collect::<HashSet<_>>().len() as f64 / runs as f64
}
