//! The weights of the simulated engine: the list of steps that were taken, which shows whether a step was lost, repeated
//! or reordered.

use demask_storage::Steer;
use serde::{Deserialize, Serialize};

use crate::ground::LEARNING_RATE;

/// The file name of the weights.
pub const WEIGHTS: &str = "weights.json";

/// An optimizer step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakenStep {
    /// The run's step.
    pub step: u64,
    pub learning_rate: f64,
    /// A hash of all token ids, in order.
    pub content: u64,
    /// The lineage ids of the sequences.
    pub subjects: Vec<String>,
}

/// The weights: all steps that were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    pub taken: Vec<TakenStep>,
    /// Number of optimizer steps.
    pub version: u64,
}

impl Weights {
    /// Returns the log-probabilities of a sample's views: a number by which the weights are known.
    pub fn log_probabilities(&self) -> Vec<f32> {
        vec![-(self.taken.len() as f32)]
    }
}

/// Returns the learning rate of a step according to the steers that took effect.
pub fn rate_at<'a>(step: u64, steers: impl Iterator<Item = &'a Steer>) -> f64 {
    let mut rate = LEARNING_RATE;
    for steer in steers {
        let applies = steer.applied_step.is_some_and(|at| at <= step);
        if applies && steer.key.as_deref() == Some("learning_rate") {
            rate = steer
                .new
                .as_ref()
                .and_then(|new| new.parse().ok())
                .unwrap_or(rate);
        }
    }
    rate
}

/// Returns whether two weights took the same steps. Their learning rates are checked by themselves (L4), and a file may
/// change the last bit of one.
pub fn are_same(one: &[TakenStep], other: &[TakenStep]) -> bool {
    let step = |taken: &TakenStep| (taken.step, taken.content, taken.subjects.clone());
    one.iter().map(step).eq(other.iter().map(step))
}
