//! External rewards (`[[reward]]` of a profile). A reward is asked about a batch of completions at a time, either in a
//! process that lives as long as the run or at an HTTP address. It is restarted after failures, within a budget.
//!
//! - `batch.rs`: the format of a request; `values.rs`: the format of an answer;
//! - `transport.rs`: the trait of a transport; `process.rs`, `address.rs`: the two transports;
//! - `asked.rs`: one reward with its restart budget;
//! - `trial.rs`: a trial of each reward before a run.
//!
//! Not here: what a failure means for the run (it is paused: `run/stages/step.rs`), and how a value is weighted
//! (`Scored`).

mod address;
mod asked;
mod batch;
mod process;
mod transport;
mod trial;
mod values;

use std::sync::Arc;

use demask_storage::Blobs;
use futures_util::future::try_join_all;

use crate::pipeline::judgement::{JudgeCompletions, JudgedCompletion, JudgementItem};
use crate::pipeline::run_error::RewardFailure;
use crate::profile::ExternalReward;
use asked::AskedReward;

pub use transport::{NamedRewards, RewardAnswering, RewardOpener, RewardTransport};
pub use trial::{RewardTrial, try_rewards};
pub use values::ExternalValue;

/// The external rewards of a run. They outlive the actor that asks them, and end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ExternalRewards {
    rewards: Vec<Arc<AskedReward>>,
}

impl ExternalRewards {
    /// Makes the external rewards without starting them. Pictures that are passed by path are stored in `blobs`.
    #[must_use]
    pub fn of(rewards: &[ExternalReward], run: &str, blobs: &Blobs) -> Self {
        Self::opened_by(
            &(Arc::new(NamedRewards) as Arc<dyn RewardOpener>),
            rewards,
            run,
            blobs,
        )
    }

    /// Makes external rewards as [`Self::of`] does, whose transports this opener opens.
    #[must_use]
    pub fn opened_by(
        opener: &Arc<dyn RewardOpener>,
        rewards: &[ExternalReward],
        run: &str,
        blobs: &Blobs,
    ) -> Self {
        let one = |reward: &ExternalReward| {
            let (blobs, opener) = (blobs.clone(), Arc::clone(opener));
            Arc::new(AskedReward::new(reward.clone(), run, blobs, opener))
        };
        Self {
            rewards: rewards.iter().map(one).collect(),
        }
    }

    /// Adds the values of the rewards with a weight to the judgement of each completion. The named numbers of a value
    /// are added as `NAME.PART` with weight 0.
    ///
    /// # Errors
    /// [`RewardFailure`] if a reward failed more often than its budget allows.
    pub async fn add(
        &self,
        score: &JudgeCompletions,
        judged: &mut [JudgedCompletion],
    ) -> Result<(), RewardFailure> {
        let weight = |asked: &AskedReward| score.weights.get(&asked.reward.name).copied().unwrap_or(0.0);
        let weighed = self.rewards.iter().filter(|asked| weight(asked) > 0.0);
        let all = weighed.map(async |asked| {
            let places = places(asked, &score.items);
            let values = asked.values(&score.items, &places).await?;
            Ok::<_, RewardFailure>((asked, places, values))
        });
        for (asked, places, values) in try_join_all(all).await? {
            let (name, weight) = (&asked.reward.name, weight(asked));
            for (at, value) in places.into_iter().zip(values) {
                if let (Some(value), Some(judged)) = (value, judged.get_mut(at)) {
                    judged.scored.push(name, value.value, weight);
                    for (part, number) in value.parts {
                        judged.scored.push(&format!("{name}.{part}"), number, 0.0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the values of one reward as credits: 0 at the low end of its range, 1 at the high end, and 0 for an item
    /// without a value.
    ///
    /// # Errors
    /// [`RewardFailure`] if the reward failed more often than its budget allows, or if no reward has this name.
    pub async fn credits(
        &self,
        name: &str,
        items: Arc<Vec<JudgementItem>>,
    ) -> Result<Vec<f64>, RewardFailure> {
        let Some(asked) = self.rewards.iter().find(|asked| asked.reward.name == name) else {
            return Err(RewardFailure {
                name: name.to_owned(),
                tries: 0,
                why: "there is no [[reward]] of this name".to_owned(),
            });
        };
        let all: Vec<usize> = (0..items.len()).collect();
        let values = asked.values(&items, &all).await?;
        let [low, high] = asked.reward.range;
        let credit =
            |value: Option<ExternalValue>| value.map_or(0.0, |value| (value.value - low) / (high - low));
        Ok(values.into_iter().map(credit).collect())
    }
}

/// Returns the indices of the items that a reward judges.
fn places(asked: &AskedReward, items: &[JudgementItem]) -> Vec<usize> {
    let judged =
        |(at, item): (usize, &JudgementItem)| asked.reward.judges(&item.example, item.mode).then_some(at);
    items.iter().enumerate().filter_map(judged).collect()
}
