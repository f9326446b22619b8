//! The reward `format`: whether reasoning stands between its tags and a result follows (`mmada.md` 5.3).

use super::{Evidence, Reward};
use crate::verifiers::thought::format_reward;
use demask_datasets::example::Mode;

/// The reward `format`.
#[derive(Clone, Copy, Debug)]
pub struct FormatReward;

impl Reward for FormatReward {
    fn name(&self) -> &'static str {
        "format"
    }

    fn about(&self) -> &'static str {
        "1 where an answer with reasoning follows the format <think>…</think>, else 0"
    }

    fn default_weight(&self) -> f64 {
        0.5
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let case = evidence.case()?;
        let is_asked = case.mode == Mode::Think && case.example.answer.is_some();
        is_asked.then(|| format_reward(&case.completion.text))
    }
}
