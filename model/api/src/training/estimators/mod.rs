//! Estimators: which masked views of a completion stand for its likelihood, which a masked-diffusion model has none of in
//! closed form. One file an estimator, its settings and its views, found by name in [`ESTIMATORS`].
//!
//! | name | views of an inner step | source |
//! | --- | --- | --- |
//! | `uni_grpo` | one: prompt clean, answer masked at the ratio of the inner step | MMaDA, `mmada.md` 5.2; `peers.md` B.11 |
//! | `diffu_grpo` | one: the whole answer masked, the prompt with a small probability | d1, `peers.md` B.12 |
//! | `coupled` | two: complementary masks, each answer token masked in one of them | DiffuCoder as dLLM-RL has it, `peers.md` B.13 |
//! | `trace_rl` | some moments of the sampler's trajectory, as it saw them | TraceRL, `peers.md` B.14 |
//!
//! A new estimator is a file here with an [`Estimator`], whose fields are its table of the profile, and its line in the list.
//! They are here and not in the engine, so that a profile is checked without one. `config.rs`: an estimator as a profile and a
//! request name it.
//!
//! Not here: what the views' log-probabilities are used for (`policy/objective.rs` of the engine).

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

/// Which masked views stand for a completion's likelihood at an inner step. What it has as fields, with a line of
/// documentation and a range each, are its settings in a profile.
///
/// The views are the same for the present, the old and the reference policy (law L7).
pub trait Estimator:
    Clone + Debug + PartialEq + Send + Sync + JsonSchema + Serialize + DeserializeOwned + 'static
{
    /// Its name in profiles and requests.
    const NAME: &'static str;

    /// The views of a completion; the same inner step of the same seed gives the same ones.
    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView>;

    /// Whether its settings make sense.
    ///
    /// # Errors
    /// The setting and its range, in words.
    fn check_settings(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether a sample has all that the views are made of.
    ///
    /// # Errors
    /// The sequence and what is missing, in words.
    fn check_sample(&self, _sample: &PolicySample) -> Result<(), String> {
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
    /// The name.
    pub name: &'static str,
    /// Reads an estimator's own settings.
    read: fn(Map<String, Value>) -> serde_json::Result<EstimatorConfig>,
    /// What the settings are.
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl EstimatorEntry {
    /// The entry of an estimator.
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
