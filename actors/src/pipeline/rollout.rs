//! The Rollout: it draws groups of completions with one weights version, has them scored, and returns them to the
//! trainer.
//!
//! L2: each group takes a permit before it is drawn and carries it. The permit is free again once the trainer has used
//! the group and drops it, or once any actor on the way dies. There are therefore never more groups than one step can
//! use, or of more steps if the next steps' groups are drawn ahead.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use demask_storage::ActorState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::control::Control;
use crate::inference::complete::{CompletionRequest, CompletionResult, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::judgement::{JudgeCompletions, JudgedCompletion, JudgementItem};
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{Drawers, DrawingPolicy, PublishedPolicy};
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
    /// Version of the weights that sample; where these are the newest ones when a group is admitted, the present
    /// version.
    pub weights: u64,
    /// Weights that sampling engines load to draw the groups; absent: the training engine draws them with its own
    /// weights.
    pub policy: Option<DrawingPolicy>,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Completions of each group: one prompt with different seeds.
    pub groups: Arc<Vec<Vec<CompletionRequest>>>,
    /// Settings of the samplers.
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
    /// The sampled completions.
    pub made: Vec<CompletionResult>,
    /// The scores of the completions.
    pub judged: Vec<JudgedCompletion>,
    /// Version of the training engine's weights when it sampled them.
    engine_weights: u64,
    /// Published weights that sampled them; `None` if the training engine did.
    pub policy: Option<PublishedPolicy>,
    /// L2: permit of the group, which its drop frees.
    pub permit: OwnedSemaphorePermit,
}

impl Group {
    /// Returns the version of the weights that sampled the completions.
    #[must_use]
    pub fn weights(&self) -> u64 {
        self.policy
            .as_ref()
            .map_or(self.engine_weights, |policy| policy.weights)
    }
}

/// The Rollout actor.
pub struct Rollout {
    life: Life,
    faults: FaultInjection,
    drawers: Drawers,
    scorer: Address<Scorer>,
    permits: Arc<Semaphore>,
}

/// The handle through which others use the Rollout.
#[derive(Clone)]
pub struct RolloutHandle {
    /// Address of the actor.
    pub address: Address<Rollout>,
}

impl RolloutHandle {
    /// Spawns a Rollout under the supervisor, with permits for this many groups: those of the largest step, or of
    /// several steps.
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
            drawers: drawers.clone(),
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
        let (drawers, scorer) = (self.drawers.clone(), self.scorer.clone());
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
            let (made, drawn_by) = match &roll.policy {
                Some(policy) => {
                    let policy = match faults.has(SeededBug::OtherWeights) {
                        true => &DrawingPolicy::Newest,
                        false => policy,
                    };
                    let drawn = drawers.samplers.draw(policy, inference, &roll.groups, how);
                    drawn.await?
                }
                None => {
                    let made = inference.complete(&drawers.engine, &wanted, how, None).await?;
                    (made, Vec::new())
                }
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
            let admitted = held
                .into_iter()
                .zip(drawn_by.into_iter().map(Some).chain(std::iter::repeat(None)));
            Ok(groups(&roll, made, judged, admitted))
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
    wanted
        .iter()
        .zip(made)
        .map(|(wanted, made)| JudgementItem {
            // Two groups of a step may have the same prompt; their seeds differ.
            id: format!("{}/{}/{:x}", roll.step, wanted.example.id, wanted.seed),
            example: wanted.example.clone(),
            mode: wanted.mode,
            completion: made.completion.clone(),
            budget: budget(wanted),
        })
        .collect()
}

/// Puts completions back into their groups, with a permit and the published weights that drew it for each.
fn groups(
    roll: &Roll,
    made: Vec<CompletionResult>,
    judged: Vec<JudgedCompletion>,
    admitted: impl Iterator<Item = (OwnedSemaphorePermit, Option<PublishedPolicy>)>,
) -> Vec<Group> {
    let (mut made, mut judged) = (made.into_iter(), judged.into_iter());
    roll.groups
        .iter()
        .zip(admitted)
        .map(|(wanted, (permit, policy))| Group {
            wanted: wanted.clone(),
            made: made.by_ref().take(wanted.len()).collect(),
            judged: judged.by_ref().take(wanted.len()).collect(),
            engine_weights: roll.weights,
            policy,
            permit,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use demask_api::{Sequence, Task};
    use demask_datasets::example::{Kind, Mode};
    use demask_datasets::prompts::sequences::Budgets;
    use demask_datasets::prompts::text_tokenizer::TextTokenizer;
    use demask_rewards::judge::Completion;

    use super::*;
    use crate::inference::typed_prompt::plain_example;

    fn roll(groups: Vec<Vec<CompletionRequest>>) -> Roll {
        let tokenizer = TextTokenizer::train(&["one two three".to_owned()], 300).unwrap();
        Roll {
            step: 0,
            weights: 1,
            policy: None,
            inference: Arc::new(Inference::new(tokenizer, Budgets::default())),
            groups: Arc::new(groups),
            samplers: SamplerSettings::default(),
            rewards: BTreeMap::new(),
            control: Arc::default(),
        }
    }

    /// A reward may keep its values by the completions' ids. A small source gives one prompt to several groups.
    #[test]
    fn completions_of_one_prompt_have_ids_of_their_own_which_stay_the_same() {
        let asked = |seed| CompletionRequest {
            example: plain_example(Kind::WordProblem, "1 + 1?", None),
            mode: Mode::Direct,
            seed,
            watch: None,
        };
        let groups = vec![vec![asked(1), asked(2)], vec![asked(3), asked(4)]];
        let wanted = groups.concat();
        let made = CompletionResult {
            completion: Completion::default(),
            sequence: Sequence {
                id: String::new(),
                task: Task::Text,
                ids: Vec::new(),
                left_pad: 0,
                answer: Vec::new(),
            },
            commit_step: Vec::new(),
            forwards: 0,
        };
        let (roll, made) = (roll(groups), vec![made; 4]);
        let ids = || -> Vec<String> {
            let items = items(&roll, &wanted, &made);
            items.into_iter().map(|item| item.id).collect()
        };
        assert_eq!(ids().into_iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(ids(), ids());
    }

    #[test]
    fn l2_a_group_holds_its_place_until_it_is_dropped() {
        let roll = roll(vec![Vec::new(); 2]);
        let places = Arc::new(Semaphore::new(2));
        let permits = (0..2).map(|_| (Arc::clone(&places).try_acquire_owned().unwrap(), None));
        let mut drawn = groups(&roll, Vec::new(), Vec::new(), permits);
        assert_eq!((drawn.len(), places.available_permits()), (2, 0));
        drawn.pop();
        assert_eq!(places.available_permits(), 1);
        drop(drawn);
        assert_eq!(places.available_permits(), 2);
    }
}
