//! A trial of the external rewards before a run: each is started once and asked about the right answer of one example.

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_datasets::example::Example;
use demask_rewards::completion::Completion;
use demask_storage::Blobs;
use serde::Serialize;

use super::asked::AskedReward;
use super::transport::NamedRewards;
use crate::pipeline::judgement::JudgementItem;
use crate::profile::{ExternalReward, Profile};
use crate::runtime::ids;

/// The result of an external reward for one example's right answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RewardTrial {
    /// Name of the reward.
    pub name: String,
    /// Source of the example; `None` if no source has an example that the reward judges.
    pub source: Option<String>,
    /// Prompt of the example.
    pub prompt: String,
    /// The right answer, which was sent as the model's text.
    pub answer: String,
    /// The value; `None` if the reward returned none.
    pub value: Option<f64>,
    /// The named numbers beside the value.
    pub parts: BTreeMap<String, f64>,
    /// The reason why there is no answer.
    pub failure: Option<String>,
}

/// Asks each external reward of a profile once, about the first example that it judges.
#[must_use]
pub fn try_rewards(profile: &Profile, samples: &BTreeMap<String, Vec<Example>>) -> Vec<RewardTrial> {
    let rewards = &profile.external_rewards;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let mut all = Vec::new();
            for reward in rewards {
                all.push(try_one(reward, samples).await);
            }
            all
        }),
        Err(error) => rewards
            .iter()
            .map(|reward| RewardTrial {
                name: reward.name.clone(),
                failure: Some(error.to_string()),
                ..RewardTrial::default()
            })
            .collect(),
    }
}

async fn try_one(reward: &ExternalReward, samples: &BTreeMap<String, Vec<Example>>) -> RewardTrial {
    let mut trial = RewardTrial {
        name: reward.name.clone(),
        ..RewardTrial::default()
    };
    let all = samples
        .iter()
        .flat_map(|(source, all)| all.iter().map(move |one| (source, one)));
    let modes = all.map(|(source, example)| (source, example, example.own_mode()));
    let Some((source, example, mode)) = { modes }.find(|(_, example, mode)| reward.judges(example, *mode))
    else {
        return trial;
    };
    trial.source = Some(source.clone());
    trial.prompt.clone_from(&example.prompt);
    trial.answer = example.reference();
    let item = JudgementItem {
        id: "0".to_owned(),
        example: example.clone(),
        mode,
        completion: Completion {
            text: example.completion(mode),
            picture: example.picture.clone(),
            tokens: 1,
        },
        budget: usize::MAX,
    };
    // A picture that is passed by path lies in a folder that is removed after the trial.
    let room = std::env::temp_dir().join(format!("demask-trial-{}", ids::new_id()));
    let once = ExternalReward {
        restarts: 0,
        ..reward.clone()
    };
    let blobs = Blobs::new(room.clone());
    let asked = Arc::new(AskedReward::new(once, "check", blobs, Arc::new(NamedRewards)));
    match asked.values(&Arc::new(vec![item]), &[0]).await {
        Ok(values) => {
            if let Some(value) = values.into_iter().flatten().next() {
                trial.value = Some(value.value);
                trial.parts = value.parts.into_iter().collect();
            }
        }
        Err(failure) => trial.failure = Some(failure.why),
    }
    std::fs::remove_dir_all(room).ok();
    trial
}
