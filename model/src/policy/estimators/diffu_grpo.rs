//! d1's diffu-GRPO (`peers.md` B.12): the whole answer masked, as the first step of a sampler sees it; masks in the prompt
//! make the inner steps' views differ.

use demask_api::{EstimatorConfig, PolicySample};
use rand::Rng as _;

use super::view::{MaskedView, answer_positions};
use super::{Estimator, EstimatorEntry, InnerStep};
use crate::error::Result;
use crate::training::validation::in_range;

/// Settings of [`EstimatorConfig::DiffuGrpo`].
#[derive(Clone, Debug)]
pub struct DiffuGrpo {
    prompt_mask: f64,
}

pub(super) const ENTRY: EstimatorEntry = EstimatorEntry {
    name: "diffu_grpo",
    make: |config| match config {
        EstimatorConfig::DiffuGrpo { prompt_mask } => Some(Box::new(DiffuGrpo {
            prompt_mask: *prompt_mask,
        })),
        _ => None,
    },
};

impl Estimator for DiffuGrpo {
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

    fn check_settings(&self) -> Result<()> {
        in_range("prompt_mask", self.prompt_mask, 0.0, 1.0)
    }
}
