//! Coupled-GRPO (`peers.md` B.13) as dLLM-RL has it: two complementary masks, so that every answer token counts once and with
//! part of the others in sight.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{MaskedView, answer_positions, choose_at_least_one};
use super::{Estimator, InnerStep};
use crate::training::policy::PolicySample;

/// The least ratio of the first mask; the second has the rest.
const LEAST_RATIO: f64 = 0.2;
/// How far above the least the ratio may lie, uniformly: 0.2 to 0.8, so that neither view is next to nothing.
const RATIO_WIDTH: f64 = 0.6;

/// A pair of complementary masks, each answer token seen masked once, as dLLM-RL has it: DiffuCoder's (`peers.md` B.13) without
/// its third view, which masks all, and without the weights of the pair.
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
