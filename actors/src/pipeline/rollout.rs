//! The Rollout: it draws groups of completions with one weights version, has them scored, and returns them to the
//! trainer.
//!
//! L2: each group takes a permit before it is drawn and carries it. The permit is free again once the trainer has used
//! the group and drops it, or once any actor on the way dies. There are therefore never more groups than one step can
//! use, or two steps if the next step's groups are drawn ahead.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use demask_storage::ActorState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::control::Control;
use crate::engine::actor::EngineAddress;
use crate::inference::complete::{CompletionRequest, CompletionResult, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::judgement::{JudgeCompletions, JudgedCompletion, JudgementItem};
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{PublishedPolicy, SamplingEngines};
use crate::pipeline::scorer::Scorer;
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::{FaultInjection, SeededBug};
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Capacity of the mailbox. The trainer asks for the groups of one step at a time.
const MAILBOX: usize = 1;

/// The request to draw and score the groups of a step.
#[derive(Clone, Message)]
#[rtype(result = "Result<Vec<Group>, RunError>")]
pub struct Roll {
    /// The step.
    pub step: u64,
    /// Version of the weights that sample.
    pub weights: u64,
    /// Weights that sampling engines load to draw the groups; absent: the training engine draws them with its own
    /// weights.
    pub policy: Option<PublishedPolicy>,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Completions of each group: one prompt with different seeds.
    pub groups: Arc<Vec<Vec<CompletionRequest>>>,
    /// Samplers.
    pub samplers: SamplerSettings,
    /// Weight of each reward.
    pub rewards: BTreeMap<String, f64>,
    /// Control of the run. Scoring is given up early when it says that the run is ending.
    pub control: Arc<Control>,
}

/// The completions of one prompt with their scores.
#[derive(Debug)]
pub struct Group {
    /// Requests of the completions.
    pub wanted: Vec<CompletionRequest>,
    /// Completions.
    pub made: Vec<CompletionResult>,
    /// Scores.
    pub judged: Vec<JudgedCompletion>,
    /// Version of the weights that sampled them.
    pub weights: u64,
    /// L2: permit of the group, which its drop frees.
    pub permit: OwnedSemaphorePermit,
}

/// The Rollout actor.
pub struct Rollout {
    life: Life,
    faults: FaultInjection,
    engine: EngineAddress,
    samplers: SamplingEngines,
    scorer: Address<Scorer>,
    permits: Arc<Semaphore>,
}

/// The engines that draw groups.
#[derive(Clone)]
pub struct Drawers {
    /// Engine that trains.
    pub engine: EngineAddress,
    /// Engines that only sample.
    pub samplers: SamplingEngines,
}

/// The handle through which others use the Rollout.
#[derive(Clone)]
pub struct RolloutHandle {
    /// Address of the actor.
    pub address: Address<Rollout>,
}

impl RolloutHandle {
    /// Spawns a Rollout under the supervisor, with permits for this many groups: those of the largest step, or of two
    /// steps.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        drawers: Drawers,
        scorer: Address<Scorer>,
        room: usize,
        faults: FaultInjection,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(room));
        let address = supervisor.spawn("rollout", "supervisor", move |life| Rollout {
            life,
            faults: faults.clone(),
            engine: drawers.engine.clone(),
            samplers: drawers.samplers.clone(),
            scorer: scorer.clone(),
            permits: Arc::clone(&permits),
        });
        Self { address }
    }
}

impl Actor for Rollout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Rollout {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Roll> for Rollout {
    type Result = AtomicResponse<Self, Result<Vec<Group>, RunError>>;

    fn handle(&mut self, roll: Roll, _: &mut Self::Context) -> Self::Result {
        let (engine, samplers, scorer) = (self.engine.clone(), self.samplers.clone(), self.scorer.clone());
        let (permits, faults, probe) = (
            Arc::clone(&self.permits),
            self.faults.clone(),
            self.life.probe.clone(),
        );
        handle_message(self, "Roll", async move {
            let mut held = Vec::new();
            for _ in roll.groups.iter() {
                if permits.available_permits() == 0 {
                    probe.say(ActorState::Waiting, "for the trainer to use earlier groups");
                }
                let permit = Arc::clone(&permits).acquire_owned().await;
                held.push(permit.map_err(|error| RunError::Failed(error.to_string()))?);
            }
            let count = roll.groups.len();
            probe.say(
                ActorState::Busy,
                &format!("{count} groups, weights {}", roll.weights),
            );
            let wanted: Vec<CompletionRequest> = roll.groups.iter().flatten().cloned().collect();
            let (inference, how) = (&roll.inference, &roll.samplers);
            let made = match &roll.policy {
                Some(policy) => samplers.complete(policy, inference, &roll.groups, how).await?,
                None => inference.complete(&engine, &wanted, how, None).await?,
            };
            faults.strike("rollout", roll.step);
            let score = JudgeCompletions {
                step: roll.step,
                items: Arc::new(items(&roll, &wanted, &made)),
                weights: roll.rewards.clone(),
                control: Arc::clone(&roll.control),
            };
            let judged = scorer.ask(score).await??;
            let made = seeded_bugs(&faults, &permits, made);
            Ok(groups(&roll, made, judged, held))
        })
    }
}

/// Applies the deliberate bugs that a simulation has to find.
fn seeded_bugs(
    faults: &FaultInjection,
    permits: &Arc<Semaphore>,
    mut made: Vec<CompletionResult>,
) -> Vec<CompletionResult> {
    if faults.has(SeededBug::LostPermit) {
        let permits = Arc::clone(permits);
        actix::spawn(async move { permits.acquire_owned().await.map(OwnedSemaphorePermit::forget) });
    }
    if faults.has(SeededBug::DoubleUse)
        && let [first, .., last] = &mut made[..]
    {
        *last = first.clone();
    }
    made
}

fn items(roll: &Roll, wanted: &[CompletionRequest], made: &[CompletionResult]) -> Vec<JudgementItem> {
    let budget = |wanted: &CompletionRequest| {
        let task = wanted.example.task(wanted.mode);
        roll.inference.builder().budgets().of(task).answer
    };
    let groups = roll.groups.iter().flat_map(|group| 0..group.len());
    wanted
        .iter()
        .zip(made)
        .zip(groups)
        .map(|((wanted, made), number)| JudgementItem {
            id: format!("{}/{}/{number}", roll.step, wanted.example.id),
            example: wanted.example.clone(),
            mode: wanted.mode,
            completion: made.completion.clone(),
            budget: budget(wanted),
        })
        .collect()
}

/// Puts completions back into their groups, with a permit for each.
fn groups(
    roll: &Roll,
    made: Vec<CompletionResult>,
    judged: Vec<JudgedCompletion>,
    permits: Vec<OwnedSemaphorePermit>,
) -> Vec<Group> {
    let (mut made, mut judged) = (made.into_iter(), judged.into_iter());
    roll.groups
        .iter()
        .zip(permits)
        .map(|(wanted, permit)| Group {
            wanted: wanted.clone(),
            made: made.by_ref().take(wanted.len()).collect(),
            judged: judged.by_ref().take(wanted.len()).collect(),
            weights: roll.weights,
            permit,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_datasets::prompts::sequences::Budgets;
    use demask_datasets::prompts::text_tokenizer::TextTokenizer;

    use super::*;

    #[test]
    fn l2_a_group_holds_its_place_until_it_is_dropped() {
        let tokenizer = TextTokenizer::train(&["one two three".to_owned()], 300).unwrap();
        let roll = Roll {
            step: 0,
            weights: 1,
            policy: None,
            inference: Arc::new(Inference::new(tokenizer, Budgets::default())),
            groups: Arc::new(vec![Vec::new(); 2]),
            samplers: SamplerSettings::default(),
            rewards: BTreeMap::new(),
            control: Arc::default(),
        };
        let places = Arc::new(Semaphore::new(2));
        let permits = (0..2).map(|_| Arc::clone(&places).try_acquire_owned().unwrap());
        let mut drawn = groups(&roll, Vec::new(), Vec::new(), permits.collect());
        assert_eq!((drawn.len(), places.available_permits()), (2, 0));
        drawn.pop();
        assert_eq!(places.available_permits(), 1);
        drop(drawn);
        assert_eq!(places.available_permits(), 2);
    }
}
