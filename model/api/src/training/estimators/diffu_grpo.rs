//! d1's diffu-GRPO (`peers.md` B.12): the whole answer is masked, as at the first step of a sampler. Random masks in
//! the prompt make the views of the inner steps differ.

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{MaskedView, answer_positions};
use super::{Estimator, InnerStep};
use crate::training::policy::PolicySample;

/// The whole answer masked, and prompt tokens masked with a small probability (d1, `peers.md` B.12).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffuGrpo {
    /// Probability that a prompt token is masked.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prompt_mask: f64,
}

impl Estimator for DiffuGrpo {
    const NAME: &'static str = "diffu_grpo";

    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        let sequence = &sample.sequence;
        let answer = answer_positions(sequence);
        let mut rng = step.own_rng();
        let mut view = MaskedView::at(sequence, mask_token, &answer);
        for at in sequence.left_pad..sequence.ids.len() {
            if !answer.contains(&at) && rng.random::<f64>() < self.prompt_mask {
                view.ids[at] = mask_token;
            }
        }
        vec![view]
    }

    fn check_settings(&self) -> Result<(), String> {
        match (0.0..=1.0).contains(&self.prompt_mask) {
            true => Ok(()),
            false => Err(format!(
                "prompt_mask is {}, expected a finite number, 0 to 1",
                self.prompt_mask
            )),
        }
    }
}
