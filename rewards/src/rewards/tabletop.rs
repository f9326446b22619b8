//! The reward `draw`: the detector's partial credit for a drawn table. It replaces the paper's CLIP and ImageReward.

use super::{Evidence, Reward};
use demask_datasets::example::Check;

/// The reward `draw`.
#[derive(Clone, Copy, Debug)]
pub struct TabletopReward;

impl Reward for TabletopReward {
    fn name(&self) -> &'static str {
        "draw"
    }

    fn about(&self) -> &'static str {
        "how much of the requested table the detector finds in the drawing, 0 to 1"
    }

    fn default_weight(&self) -> f64 {
        2.0
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let case = evidence.case()?;
        let Check::Scene { request } = &case.example.check else {
            return None;
        };
        Some(case.completion.picture.as_ref().map_or(0.0, |picture| {
            let reading = case.verifiers.detector.read(picture);
            request.score(&reading.scene) * (1.0 - reading.unknown as f64 / 9.0)
        }))
    }
}
