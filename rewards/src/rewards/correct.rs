//! The reward `correct`: whether the completion is right (`mmada.md` 5.3).

use super::{Evidence, Reward};

/// The reward `correct`.
#[derive(Clone, Copy, Debug)]
pub struct Correct;

impl Reward for Correct {
    fn name(&self) -> &'static str {
        "correct"
    }

    fn about(&self) -> &'static str {
        "1 where the answer or the picture is right, else 0"
    }

    fn default_weight(&self) -> f64 {
        2.0
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let case = evidence.case()?;
        let is_right = case.verifiers.is_right(case.example, case.completion);
        Some(f64::from(u8::from(is_right)))
    }
}
