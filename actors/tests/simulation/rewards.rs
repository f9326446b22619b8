//! A simulated external reward. Its value of a completion follows from the completion's text alone, so the rows of a
//! run show every value that was lost, was taken for another, or came from a wrong answer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use demask_actors::pipeline::external_rewards::{RewardAnswering, RewardOpener, RewardTransport};
use demask_actors::profile::ExternalReward;
use serde_json::{Value, json};

use crate::faults::RewardFault;
use crate::laboratory::{Hanging, SharedLaboratory};

/// How long a late answer takes; less than the `time_limit` of the profile.
const LATE: Duration = Duration::from_secs(7);

/// Opens simulated rewards.
pub struct ScriptedRewards(pub SharedLaboratory);

impl fmt::Debug for ScriptedRewards {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ScriptedRewards")
    }
}

impl RewardOpener for ScriptedRewards {
    fn open(&self, _: &ExternalReward, _: &str) -> Result<Box<dyn RewardTransport>, String> {
        let mut laboratory = self.0.lock().unwrap();
        if laboratory.rewards.last() == Some(&RewardFault::NoStart) {
            laboratory.rewards.pop();
            laboratory.log.push("the reward does not start".into());
            return Err("cannot start the reward: no descriptor is left".into());
        }
        Ok(Box::new(ScriptedReward {
            laboratory: Arc::clone(&self.0),
            owed: VecDeque::new(),
        }))
    }
}

/// A simulated reward that runs.
struct ScriptedReward {
    laboratory: SharedLaboratory,
    /// Answers that were not read. A reward answers its batches in order, also one that nobody waits for any more.
    owed: VecDeque<Vec<Value>>,
}

impl fmt::Debug for ScriptedReward {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("ScriptedReward")
    }
}

impl RewardTransport for ScriptedReward {
    fn ask<'a>(&'a mut self, batch: &'a [u8]) -> RewardAnswering<'a> {
        Box::pin(async move {
            let (delay, fault) = {
                let mut laboratory = self.laboratory.lock().unwrap();
                let said = (laboratory.delay(), laboratory.reward_fault());
                if let Some(fault) = said.1 {
                    laboratory.log.push(format!("the reward: {fault:?}"));
                }
                said
            };
            self.owed.push_back(values(batch));
            match fault {
                Some(RewardFault::Silent) => {
                    let _noted = Hanging::note(&self.laboratory);
                    return std::future::pending().await;
                }
                Some(RewardFault::Late) => {
                    let _noted = Hanging::note(&self.laboratory);
                    tokio::time::sleep(LATE).await;
                }
                _ => tokio::time::sleep(delay).await,
            }
            let mut values = self.owed.pop_front().unwrap();
            match fault {
                Some(RewardFault::Dies | RewardFault::NoStart) => return Err("it ended (signal: 9)".into()),
                Some(RewardFault::Rambles) => return Ok("I think that all of these are good.".into()),
                Some(RewardFault::NotANumber) => return Ok(r#"{"values": [NaN]}"#.into()),
                Some(RewardFault::OtherBatch) => {
                    return Ok(json!({ "batch": 0, "values": values }).to_string());
                }
                Some(RewardFault::TooFew) => drop(values.pop()),
                Some(RewardFault::TooMany) => values.push(json!(0.5)),
                Some(RewardFault::OutOfRange) => values[0] = json!(7),
                Some(RewardFault::Silent | RewardFault::Late) | None => {}
            }
            Ok(json!({ "values": values }).to_string())
        })
    }
}

/// Returns the value of each completion of a batch.
fn values(batch: &[u8]) -> Vec<Value> {
    let batch: Value = serde_json::from_slice(batch).unwrap();
    let value = |item: &Value| {
        let letters: u32 = item["completion"].as_str().unwrap().bytes().map(u32::from).sum();
        json!({ "value": f64::from(letters % 5) / 4.0, "letters": letters })
    };
    batch["items"].as_array().unwrap().iter().map(value).collect()
}
