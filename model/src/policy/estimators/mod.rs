//! Estimators: which masked views of a completion stand for its likelihood, which a masked-diffusion model has none of in
//! closed form. One file an estimator, found in [`ESTIMATORS`].
//!
//! | name | views of an inner step | source |
//! | --- | --- | --- |
//! | `uni_grpo` | one: prompt clean, answer masked at the ratio of the inner step | MMaDA, `mmada.md` 5.2; `peers.md` B.11 |
//! | `diffu_grpo` | one: the whole answer masked, the prompt with a small probability | d1, `peers.md` B.12 |
//! | `coupled` | two: complementary masks, each answer token masked in one of them | DiffuCoder as dLLM-RL has it, `peers.md` B.13 |
//! | `trace_rl` | some moments of the sampler's trajectory, as it saw them | TraceRL, `peers.md` B.14 |
//!
//! A new estimator is a variant of [`EstimatorConfig`] for its settings, a file here that makes itself of that variant, and a
//! line in [`ESTIMATORS`].
//!
//! Not here: what the views' log-probabilities are used for (`policy/objective.rs`).

mod coupled;
mod diffu_grpo;
mod trace_rl;
mod uni_grpo;
mod view;

use demask_api::{EstimatorConfig, PolicySample};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

pub use coupled::Coupled;
pub use diffu_grpo::DiffuGrpo;
pub use trace_rl::TraceRl;
pub use uni_grpo::{DIFFUSION_STEPS, UniGrpo, step_time};
pub use view::MaskedView;

use crate::error::{ModelError, Result};

/// Which masked views stand for a completion's likelihood at an inner step.
///
/// The views are the same for the present, the old and the reference policy (law L7).
pub trait Estimator: std::fmt::Debug {
    /// The views of a completion; the same inner step of the same seed gives the same ones.
    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView>;

    /// Whether its settings make sense.
    ///
    /// # Errors
    /// [`ModelError::Refused`] naming the setting and its range.
    fn check_settings(&self) -> Result<()> {
        Ok(())
    }

    /// Whether a sample has all that the views are made of.
    ///
    /// # Errors
    /// [`ModelError::Refused`] naming the sequence and what is missing.
    fn check_sample(&self, _sample: &PolicySample) -> Result<()> {
        Ok(())
    }
}

/// The inner step at which views are planned, and the seed of a sample's views.
#[derive(Clone, Copy, Debug)]
pub struct InnerStep {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are on a batch of groups, mu.
    pub count: usize,
    /// One for each sample, shared by its inner steps.
    pub seed: u64,
}

impl InnerStep {
    /// The generator of what a sample's inner steps have in common.
    fn common_rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// The generator of this inner step alone.
    fn own_rng(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.number as u64 + 1);
        rng
    }
}

/// An entry of the list of estimators.
#[derive(Clone, Copy, Debug)]
pub struct EstimatorEntry {
    /// Its name in profiles and requests: the `kind` of its [`EstimatorConfig`].
    pub name: &'static str,
    /// Makes it of its own settings; none of another's.
    pub make: fn(&EstimatorConfig) -> Option<Box<dyn Estimator>>,
}

/// Every estimator.
pub const ESTIMATORS: &[EstimatorEntry] = &[
    uni_grpo::ENTRY,
    diffu_grpo::ENTRY,
    coupled::ENTRY,
    trace_rl::ENTRY,
];

/// The estimator of these settings.
///
/// # Errors
/// [`ModelError::Refused`]: settings that no entry of [`ESTIMATORS`] knows.
pub fn find(config: &EstimatorConfig) -> Result<Box<dyn Estimator>> {
    let found = ESTIMATORS.iter().find_map(|entry| (entry.make)(config));
    found.ok_or_else(|| ModelError::Refused(format!("no estimator has the settings {config:?}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Settings are read under the names that the list says, and made into that entry's estimator alone.
    #[test]
    fn an_estimator_is_found_by_its_name() {
        let settings = [
            r#"{"kind": "uni_grpo", "spacing": "to_end"}"#,
            r#"{"kind": "diffu_grpo", "prompt_mask": 0.15}"#,
            r#"{"kind": "coupled"}"#,
            r#"{"kind": "trace_rl", "merge": 1, "views": 2}"#,
        ];
        assert_eq!(settings.len(), ESTIMATORS.len());
        for (json, entry) in settings.iter().zip(ESTIMATORS) {
            let config: EstimatorConfig = serde_json::from_str(json).unwrap();
            let kind = serde_json::to_value(&config).unwrap()["kind"].clone();
            assert_eq!(kind, entry.name);
            let makers = ESTIMATORS.iter().filter(|entry| (entry.make)(&config).is_some());
            let names: Vec<&str> = makers.map(|entry| entry.name).collect();
            assert_eq!(names, [entry.name]);
            find(&config).unwrap().check_settings().unwrap();
        }
    }
}
