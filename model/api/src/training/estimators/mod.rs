//! Estimators of a completion's likelihood from masked views of it. A masked-diffusion model has no likelihood in
//! closed form. Each estimator has a file with its settings and its views, and a name in [`ESTIMATORS`].
//!
//! | name | views of an inner step | source |
//! | --- | --- | --- |
//! | `uni_grpo` | one: prompt clean, answer masked at the ratio of the inner step | MMaDA, `mmada.md` 5.2; `peers.md` B.11 |
//! | `diffu_grpo` | one: the whole answer masked, the prompt with a small probability | d1, `peers.md` B.12 |
//! | `coupled` | two: complementary masks, each answer token masked in one | DiffuCoder in dLLM-RL's form, `peers.md` B.13 |
//! | `trace_rl` | some moments of the sampler's trajectory, as the sampler saw them | TraceRL, `peers.md` B.14 |
//!
//! To add an estimator, write a file here with an [`Estimator`], whose fields are its settings in a profile, and add it
//! to the list at the end of this file. The estimators are in this crate, not in the engine, so that a profile can be
//! checked without an engine. `config.rs` is the configuration of an estimator in a profile or a request; `view.rs` is
//! a masked view.
//!
//! Not here: the use of the views' log-probabilities (`policy/objective.rs` of the engine).

mod config;
mod view;

use std::fmt::Debug;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use config::EstimatorConfig;
pub use view::MaskedView;

use crate::training::policy::PolicySample;

/// An estimator of a completion's likelihood, which plans the masked views of an inner step. Its fields, each with a
/// line of documentation and a range, are its settings in a profile.
///
/// The views are the same for the current, the old and the reference policy (law L7).
pub trait Estimator:
    Clone + Debug + PartialEq + Send + Sync + JsonSchema + Serialize + DeserializeOwned + 'static
{
    /// The name of the estimator in profiles and requests.
    const NAME: &'static str;

    /// Plans the views of a completion. The same inner step with the same seed gives the same views.
    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView>;

    /// Checks the settings of the estimator.
    ///
    /// # Errors
    /// A message with the setting and its range.
    fn check_settings(&self) -> Result<(), String> {
        Ok(())
    }

    /// Checks that a sample has everything that its views need.
    ///
    /// # Errors
    /// A message with the sequence and what it lacks.
    fn check_sample(&self, _sample: &PolicySample) -> Result<(), String> {
        Ok(())
    }
}

/// The inner step at which views are planned, and the seed of a sample's views.
#[derive(Clone, Copy, Debug)]
pub struct InnerStep {
    /// The index of the inner step, from 0.
    pub number: usize,
    /// The number of inner steps on a batch of groups, mu.
    pub count: usize,
    /// The seed of the sample, which its inner steps share.
    pub seed: u64,
}

impl InnerStep {
    /// Returns the random number generator that the inner steps of a sample share.
    fn common_rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// Returns the random number generator of this inner step.
    fn own_rng(self) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.number as u64 + 1);
        rng
    }
}

/// An entry of the list of estimators.
#[derive(Clone, Copy, Debug)]
pub struct EstimatorEntry {
    /// The name.
    pub name: &'static str,
    /// Reads an estimator's own settings.
    read: fn(Map<String, Value>) -> serde_json::Result<EstimatorConfig>,
    /// Returns the schema of the settings.
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl EstimatorEntry {
    /// Creates the entry of an estimator.
    #[must_use]
    pub const fn of<E: Estimator>() -> Self {
        Self {
            name: E::NAME,
            read: |settings| serde_json::from_value::<E>(Value::Object(settings)).map(EstimatorConfig::from),
            schema: E::json_schema,
        }
    }
}

/// Declares the files of this folder and lists their estimators, so that an estimator is added by one line.
macro_rules! estimators {
    ($($file:ident::$estimator:ident),* $(,)?) => {
        $(pub mod $file;)*

        $(pub use $file::$estimator;)*

        /// Every estimator.
        pub const ESTIMATORS: &[EstimatorEntry] = &[$(EstimatorEntry::of::<$estimator>()),*];
    };
}

estimators! {
    uni_grpo::UniGrpo,
    diffu_grpo::DiffuGrpo,
    coupled::Coupled,
    trace_rl::TraceRl,
}
