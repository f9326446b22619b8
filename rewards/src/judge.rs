//! The Judge: scores a completion of an example by every listed reward, and decides whether it is right.

use std::collections::BTreeMap;

use demask_datasets::example::{Example, Mode};

pub use crate::completion::Completion;
use crate::rewards::{Evidence, REWARDS, Reward, RewardCase};
use crate::scored::Scored;
use crate::verifiers::Verifiers;
use crate::verifiers::class_means::ClassMeans;

/// A judge of completions.
#[derive(Clone)]
pub struct Judge {
    rewards: Vec<&'static dyn Reward>,
    verifiers: Verifiers,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            rewards: REWARDS.to_vec(),
            verifiers: Verifiers::default(),
        }
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.rewards.iter().map(|reward| reward.name()).collect();
        f.debug_struct("Judge")
            .field("rewards", &names)
            .finish_non_exhaustive()
    }
}

impl Judge {
    /// Makes a judge that can classify drawn pictures.
    #[must_use]
    pub fn with_classes(classes: ClassMeans) -> Self {
        Self::with_verifiers(Verifiers {
            classes,
            ..Verifiers::default()
        })
    }

    /// Makes a judge with these verifiers.
    #[must_use]
    pub fn with_verifiers(verifiers: Verifiers) -> Self {
        Self {
            verifiers,
            ..Self::default()
        }
    }

    /// Makes a judge with these rewards instead of the listed ones.
    #[must_use]
    pub fn with_rewards(rewards: Vec<&'static dyn Reward>) -> Self {
        Self {
            rewards,
            ..Self::default()
        }
    }

    /// Returns the verifiers of answers and pictures.
    #[must_use]
    pub const fn verifiers(&self) -> &Verifiers {
        &self.verifiers
    }

    /// Whether the completion is right; false if it cannot be checked.
    #[must_use]
    pub fn right(&self, example: &Example, completion: &Completion) -> bool {
        self.verifiers.is_right(example, completion)
    }

    /// Scores every applicable reward with its weight; a reward without a weight counts 0. `budget` is the longest text
    /// in tokens.
    #[must_use]
    pub fn score(
        &self,
        example: &Example,
        mode: Mode,
        completion: &Completion,
        weights: &BTreeMap<String, f64>,
        budget: usize,
    ) -> Scored {
        let evidence = Evidence::Case(RewardCase {
            example,
            mode,
            completion,
            budget,
            verifiers: &self.verifiers,
        });
        let mut scored = Scored::default();
        for reward in &self.rewards {
            if let Some(value) = reward.score(&evidence) {
                let weight = weights.get(reward.name()).copied().unwrap_or(0.0);
                scored.push(reward.name(), value, weight);
            }
        }
        scored
    }

    /// Describes the completion: its text, or what the detector reads in the picture.
    #[must_use]
    pub fn words(&self, completion: &Completion) -> String {
        match &completion.picture {
            None => completion.text.clone(),
            Some(picture) => {
                if let Some(class) = self.verifiers.classes.classify(picture) {
                    return format!("[{class}]");
                }
                let reading = self.verifiers.detector.read(picture);
                let seen = if reading.unknown > 0 {
                    format!(" ({} cells unknown)", reading.unknown)
                } else {
                    String::new()
                };
                let thought = if completion.text.is_empty() {
                    String::new()
                } else {
                    format!("{} ", completion.text)
                };
                format!("{thought}[{}]{seen}", reading.scene)
            }
        }
    }
}
