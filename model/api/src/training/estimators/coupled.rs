//! Coupled-GRPO (`peers.md` B.13) in dLLM-RL's form: two complementary masks, so that every answer token counts once
//! and is predicted with part of the others visible.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{MaskedView, answer_positions, choose_at_least_one};
use super::{Estimator, InnerStep};
use crate::training::policy::PolicySample;

/// The least ratio of the first mask. The second mask has the remaining positions.
const LEAST_RATIO: f64 = 0.2;
/// The width of the range of the ratio, which is uniform in 0.2..0.8, so that neither view is nearly empty.
const RATIO_WIDTH: f64 = 0.6;

/// Two complementary masks, so that each answer token is masked once (dLLM-RL's form). DiffuCoder (`peers.md` B.13)
/// also has a third view, which masks everything, and weights for the pair.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coupled {}

impl Estimator for Coupled {
    const NAME: &'static str = "coupled";

    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        let answer = answer_positions(&sample.sequence);
        let mut rng = step.own_rng();
        let ratio = LEAST_RATIO + RATIO_WIDTH * rng.random::<f64>();
        let one = choose_at_least_one(&answer, ratio, &mut rng);
        let other: Vec<usize> = answer.iter().copied().filter(|at| !one.contains(at)).collect();
        [one, other]
            .into_iter()
            .filter(|positions| !positions.is_empty())
            .map(|positions| MaskedView::at(&sample.sequence, mask_token, &positions))
            .collect()
    }
}
