//! The knobs of a run: their keys and ranges.
//!
//! To add a knob, add a variant of [`KnobKey`], its key in `Display`, its range in [`of`], and the code in `run/` that
//! asks `Control::value` for it.

use std::fmt;

use demask_storage::Knob;

use crate::profile::{Profile, Stage, StageKind};

/// The identity of a knob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnobKey {
    /// Highest learning rate of the stages.
    LearningRate,
    /// Temperature of rollouts.
    Temperature,
    /// Weight of the KL penalty towards the reference policy.
    Kl,
    /// Weight of the source of this name in the mix.
    Mix(String),
    /// Weight of the reward of this name in the sum.
    Reward(String),
}

/// Writes the key for `set`, as rows and the screen show it.
impl fmt::Display for KnobKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LearningRate => to.write_str("learning_rate"),
            Self::Temperature => to.write_str("temperature"),
            Self::Kl => to.write_str("kl"),
            Self::Mix(source) => write!(to, "mix.{source}"),
            Self::Reward(reward) => write!(to, "reward.{reward}"),
        }
    }
}

/// Returns the knobs of a run of this profile, with the profile's values.
#[must_use]
pub fn of(profile: &Profile) -> Vec<Knob> {
    let knob = |key: KnobKey, value: f64, high: f64, help: &str| Knob {
        key: key.to_string(),
        value,
        low: 0.0,
        high,
        help: help.to_owned(),
    };
    let aligns = |stage: &&Stage| stage.kind == StageKind::Align;
    let kl = profile
        .stages
        .iter()
        .filter(aligns)
        .map(|stage| stage.objective.kl);
    let temperature = profile.sampling.rollout_temperature.unwrap_or(1.0);
    let rate_help = "highest learning rate of the stages; their schedules keep their shape";
    let kl_help = "weight of the KL penalty against the reference policy";
    let mut knobs = vec![
        knob(
            KnobKey::LearningRate,
            profile.highest_learning_rate(),
            1.0,
            rate_help,
        ),
        knob(KnobKey::Temperature, temperature, 10.0, "temperature of rollouts"),
        knob(KnobKey::Kl, kl.fold(0.0, f64::max), 100.0, kl_help),
    ];
    let mix_help = "weight of the source in the mix";
    let sources = profile.sources.iter();
    knobs.extend(sources.map(|source| knob(KnobKey::Mix(source.name.clone()), source.weight, 1e6, mix_help)));
    let reward_help = "weight of the reward in the sum";
    let rewards = profile.rewards.iter();
    knobs.extend(
        rewards.map(|(name, weight)| knob(KnobKey::Reward(name.clone()), *weight, 100.0, reward_help)),
    );
    knobs
}
