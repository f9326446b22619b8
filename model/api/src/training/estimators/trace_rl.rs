//! TraceRL (`peers.md` B.14): the views follow the trajectory of the rollout. Training scores a token with the same
//! tokens visible as when the sampler committed it.

use std::collections::BTreeSet;

use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{MaskedView, answer_positions, masked};
use super::{Estimator, InnerStep};
use crate::training::policy::PolicySample;

/// The sampler's view when it committed a token, with some steps of its trajectory merged (TraceRL, `peers.md` B.14).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRl {
    /// Number of sampler steps that are merged into one.
    #[schemars(range(min = 1, max = 65535))]
    pub merge: u16,
    /// Number of views per inner step, spread over the trajectory; 0 takes all.
    pub views: usize,
}

impl Estimator for TraceRl {
    const NAME: &'static str = "trace_rl";

    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        let answer = answer_positions(&sample.sequence);
        let moments = self.moments(&sample.commit_step);
        // The inner steps of a sample share the start and therefore take different moments.
        let start = step.common_rng().random();
        spread_evenly(moments.len(), self.views, step, start)
            .into_iter()
            .map(|at| self.view_at(sample, &answer, mask_token, moments[at]))
            .collect()
    }

    fn check_sample(&self, sample: &PolicySample) -> Result<(), String> {
        let (steps, positions) = (sample.commit_step.len(), sample.sequence.answer_len());
        if steps == positions {
            return Ok(());
        }
        let id = &sample.sequence.id;
        Err(format!(
            "sequence {id}: {steps} commit steps, expected one for each of {positions} answer positions"
        ))
    }
}

impl TraceRl {
    /// Returns the moment of a commit step: the index of its group of merged steps.
    fn moment_of(&self, commit_step: u16) -> u16 {
        commit_step / self.merge.max(1)
    }

    /// Returns the moments of the trajectory, ascending.
    fn moments(&self, commit_step: &[u16]) -> Vec<u16> {
        let all: BTreeSet<u16> = commit_step.iter().map(|&step| self.moment_of(step)).collect();
        all.into_iter().collect()
    }

    /// Builds the sampler's view at a moment. Tokens that were committed earlier are visible, all others are masked,
    /// and those of the moment count.
    fn view_at(&self, sample: &PolicySample, answer: &[usize], mask_token: u32, now: u16) -> MaskedView {
        let positions_where = |wanted: fn(&u16, &u16) -> bool| -> Vec<usize> {
            let positions = answer.iter().zip(&sample.commit_step);
            positions
                .filter(|&(_, &step)| wanted(&self.moment_of(step), &now))
                .map(|(&at, _)| at)
                .collect()
        };
        let masks = positions_where(u16::ge);
        let counted = positions_where(u16::eq);
        MaskedView {
            ids: masked(&sample.sequence.ids, &masks, mask_token),
            counted: counted.into_iter().map(|at| (at, 1.0)).collect(),
        }
    }
}

/// Chooses `wanted` of `count` indices, evenly spaced from a random start and different at each inner step. Returns all
/// if `wanted` is 0 or at least `count`.
fn spread_evenly(count: usize, wanted: usize, step: InnerStep, start: f64) -> Vec<usize> {
    if wanted == 0 || wanted >= count {
        return (0..count).collect();
    }
    let inner_steps = step.count.max(1);
    let strata = (wanted * inner_steps) as f64;
    let place_of = |number: usize| {
        let place = (start + (number * inner_steps + step.number) as f64 / strata).fract();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (place * count as f64) as usize;
        place.min(count - 1)
    };
    // A set, because two strata may fall on the same index.
    let chosen: BTreeSet<usize> = (0..wanted).map(place_of).collect();
    chosen.into_iter().collect()
}
