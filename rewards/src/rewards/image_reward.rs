//! The reward `image_reward`: how well people would like a drawing for its prompt, by ImageReward (`mmada.md` 5.3).

use super::finite_or_zero;
use super::{Evidence, Needs, Reward};

/// The reward `image_reward`.
#[derive(Clone, Copy, Debug)]
pub struct ImageReward;

impl Reward for ImageReward {
    fn name(&self) -> &'static str {
        "image_reward"
    }

    fn title(&self) -> &'static str {
        "ImageReward"
    }

    fn about(&self) -> &'static str {
        "ImageReward score of a drawing for its prompt, about -2 to 2; not for described pictures"
    }

    fn default_weight(&self) -> f64 {
        0.1
    }

    fn needs(&self) -> Needs {
        Needs::Network("image_reward")
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        let network = evidence.network()?;
        let score = network.score.image_reward.filter(|_| network.drawn)?;
        Some(finite_or_zero(score))
    }
}
