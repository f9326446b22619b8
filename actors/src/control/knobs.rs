//! What can be steered in a run: every knob, its key, its range.
//!
//! To add one: a variant of [`KnobKey`], its key in `Display`, its range in [`of`], and the place in `run/` that asks
//! `Control::value` for it.

use std::fmt;

use demask_storage::Knob;

use crate::profile::{Profile, Stage, StageKind};

/// Which knob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnobKey {
    /// The highest learning rate of the stages.
    LearningRate,
    /// The temperature of rollouts.
    Temperature,
    /// The weight of the penalty on leaving the reference policy.
    Kl,
    /// The weight of the source of this name in the mix.
    Mix(String),
    /// The weight of the reward of this name in the sum.
    Reward(String),
}

/// The key for `set`, as it stands in rows and on the screen.
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

/// The knobs of a run of this profile, with the profile's values.
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
    let kl_help = "weight of the penalty on leaving the reference policy";
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
