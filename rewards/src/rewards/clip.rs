//! The reward `clip`: the similarity of a picture and its text by CLIP (`mmada.md` 5.3).

use super::finite_or_zero;
use super::{Evidence, Needs, Reward};

/// The reward `clip`.
#[derive(Clone, Copy, Debug)]
pub struct ClipReward;

impl Reward for ClipReward {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn title(&self) -> &'static str {
        "CLIP score"
    }

    fn about(&self) -> &'static str {
        "the CLIP score of a picture and its text, 0 to 100, about 30 where they fit"
    }

    fn default_weight(&self) -> f64 {
        0.1
    }

    fn needs(&self) -> Needs {
        Needs::Network("clip")
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let score = evidence.network()?.score.cosine?;
        Some(finite_or_zero(clip_score(score)))
    }
}

/// Computes the CLIP score of a cosine as torchmetrics does: 0 to 100, about 30 for a picture that matches.
#[must_use]
pub fn clip_score(cosine: f64) -> f64 {
    100.0 * cosine.max(0.0)
}
