//! UniGRPO's structured noising (`mmada.md` 5.2): the prompt is clean and the answer is masked at a ratio that changes
//! from one inner step to the next, so that the inner steps together cover all ratios.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{MaskedView, answer_positions, choose_at_least_one};
use super::{Estimator, InnerStep};
use crate::training::policy::PolicySample;

/// The number of diffusion steps of the paper's schedule, T.
pub const DIFFUSION_STEPS: f64 = 1000.0;

/// The spacing of the inner steps' mask ratios after the first, which is uniform (`peers.md` B.11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Evenly from the first ratio up to T (algorithm 1).
    ToEnd,
    /// T / mu apart, modulo T (the example of section 5.2). For every start this is a shifted stratified sample.
    #[default]
    Cyclic,
}

/// UniGRPO's structured noising: a clean prompt, and the answer masked at one ratio per inner step.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UniGrpo {
    /// Spacing of the ratios.
    pub spacing: Spacing,
}

impl Estimator for UniGrpo {
    const NAME: &'static str = "uni_grpo";

    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        // The inner steps of a sample share the start, and their times follow from it.
        let first = (step.common_rng().random::<f64>() * DIFFUSION_STEPS).floor();
        let ratio = step_time(self.spacing, first, step.number, step.count) / DIFFUSION_STEPS;
        let answer = answer_positions(&sample.sequence);
        let positions = choose_at_least_one(&answer, ratio, &mut step.own_rng());
        vec![MaskedView::at(&sample.sequence, mask_token, &positions)]
    }
}

/// Returns the time t_n of inner step n (from 0), from the start t_1 in 0..T (`peers.md` B.11).
#[must_use]
pub fn step_time(spacing: Spacing, first: f64, inner: usize, inner_steps: usize) -> f64 {
    let last = inner_steps.saturating_sub(1).max(1) as f64;
    match spacing {
        Spacing::ToEnd => (inner as f64 / last * (DIFFUSION_STEPS - first) + first).floor(),
        Spacing::Cyclic => {
            (first + inner as f64 * DIFFUSION_STEPS / inner_steps.max(1) as f64).floor() % DIFFUSION_STEPS
        }
    }
}
