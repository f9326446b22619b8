//! The Reasoner: it generates reasoning traces for problems with the model itself or a teacher, and has the Scorer
//! verify them.
//!
//! Every trace is recorded as a row as soon as it exists. What a teacher wrote before a crash is read from the store
//! instead of being requested and paid for again (law L1). Each request to a teacher holds a permit (law L2).
//!
//! `teaching.rs` is the teacher's part. Not here: the client of a teacher (`teacher`), and the verdict on a trace
//! (`scorer.rs`).

mod teaching;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use demask_datasets::example::{Example, Mode};
use demask_rewards::verifiers::trace::TraceFlaw;
use demask_storage::{Alert, Level, Record, Trace};
use tokio::sync::OnceCell;

use crate::control::Control;
use crate::inference::complete::{CompletionRequest, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{Drawers, PublishedPolicy};
use crate::pipeline::scorer::{Scorer, Verify};
use crate::profile::Teacher;
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::recorder::Recorder;
use crate::runtime::seeds::seed_of;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};
use crate::teacher::{ChatOpener, Patience, TeacherClient};
use teaching::falls_to_teacher;

/// Capacity of the mailbox.
const MAILBOX: usize = 1;

/// The settings of the Reasoner for a run.
#[derive(Clone)]
pub struct ReasonerSettings {
    /// Id of the run.
    pub run: String,
    /// Seed of the run.
    pub seed: u64,
    /// Recorder of the rows.
    pub recorder: Recorder,
    /// The store, in which traces that a teacher wrote earlier are found.
    pub database: PathBuf,
    /// The teacher, if the profile has one.
    pub teacher: Option<Teacher>,
    /// Retry limits of requests to the teacher.
    pub patience: Patience,
    /// Opener of the transport to the teacher.
    pub opener: Arc<dyn ChatOpener>,
}

/// The request to generate and verify the traces of a round.
#[derive(Clone, Message)]
#[rtype(result = "Result<Vec<Proposal>, RunError>")]
pub struct Propose {
    /// The step.
    pub step: u64,
    /// Round of the self-improvement loop.
    pub round: u64,
    /// Weights version.
    pub weights: u64,
    /// These weights, as the sampling engines load them; `None`: the training engine draws.
    pub policy: Option<PublishedPolicy>,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Problems, each with its answer.
    pub problems: Arc<Vec<Example>>,
    /// Traces per problem.
    pub group: usize,
    /// Settings of the samplers.
    pub samplers: SamplerSettings,
    /// Control of the run. The teacher is given up early when it says that the run is ending.
    pub control: Arc<Control>,
}

/// A proposed trace with its verdict.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Id: run, round and number.
    pub id: String,
    /// The problem.
    pub example: Example,
    /// The completion as it was generated.
    pub text: String,
    /// Generator: `weights:N` or `teacher:MODEL`.
    pub generator: String,
    /// The reason why the trace is rejected; `None` if it is sound.
    pub flaw: Option<TraceFlaw>,
}

/// The Reasoner actor.
pub struct Reasoner {
    life: Life,
    work: Arc<Work>,
}

/// The resources of one life of the actor.
struct Work {
    brief: ReasonerSettings,
    drawers: Drawers,
    scorer: Address<Scorer>,
    faults: FaultInjection,
    teacher: OnceCell<Option<TeacherClient>>,
}

impl Reasoner {
    /// Spawns a Reasoner under the supervisor.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        brief: ReasonerSettings,
        drawers: Drawers,
        scorer: Address<Scorer>,
        faults: FaultInjection,
    ) -> Address<Self> {
        supervisor.spawn("reasoner", "supervisor", move |life| Self {
            life,
            work: Arc::new(Work {
                brief: brief.clone(),
                drawers: drawers.clone(),
                scorer: scorer.clone(),
                faults: faults.clone(),
                teacher: OnceCell::new(),
            }),
        })
    }
}

impl Actor for Reasoner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Reasoner {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Propose> for Reasoner {
    type Result = AtomicResponse<Self, Result<Vec<Proposal>, RunError>>;

    fn handle(&mut self, propose: Propose, _: &mut Self::Context) -> Self::Result {
        let work = Arc::clone(&self.work);
        handle_message(self, "Propose", async move {
            let proposals = work.propose(&propose).await?;
            work.faults.strike("reasoner", propose.step);
            work.verified(propose.step, proposals).await
        })
    }
}

impl Work {
    async fn propose(&self, propose: &Propose) -> Result<Vec<Proposal>, RunError> {
        let wanted: Vec<CompletionRequest> = propose
            .problems
            .iter()
            .flat_map(|example| std::iter::repeat_n(example, propose.group))
            .enumerate()
            .map(|(number, example)| CompletionRequest {
                example: example.clone(),
                mode: Mode::Think,
                seed: seed_of(self.brief.seed, propose.step, 1000 + number as u64),
                watch: None,
            })
            .collect();
        let share = self.brief.teacher.as_ref().map_or(0.0, |teacher| teacher.share);
        let (taught, own): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .enumerate()
            .partition(|(number, _)| falls_to_teacher(*number, share));
        let mut proposals = self.ask_teacher(propose, taught).await?;
        proposals.extend(self.ask_model(propose, own).await?);
        Ok(proposals.into_values().collect())
    }

    async fn ask_model(
        &self,
        propose: &Propose,
        wanted: Vec<(usize, CompletionRequest)>,
    ) -> Result<BTreeMap<usize, Proposal>, RunError> {
        let asked: Vec<CompletionRequest> = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let link = self.drawers.link(propose.policy.as_ref());
        let made = propose
            .inference
            .complete(&*link, &asked, &propose.samplers, None)
            .await?;
        let sampler = serde_json::to_value(&propose.samplers.text).unwrap_or_default();
        let generator = format!("weights:{}", propose.weights);
        let mut proposals = BTreeMap::new();
        for ((number, wanted), made) in wanted.into_iter().zip(made) {
            let text = made.completion.text;
            let proposal = self
                .recorded(propose, number, &wanted, text, &generator, sampler.clone())
                .await?;
            proposals.insert(number, proposal);
        }
        Ok(proposals)
    }

    fn id(&self, round: u64, number: usize) -> String {
        format!("{}/r{round}/{number}", self.brief.run)
    }

    async fn recorded(
        &self,
        propose: &Propose,
        number: usize,
        wanted: &CompletionRequest,
        text: String,
        generator: &str,
        sampler: serde_json::Value,
    ) -> Result<Proposal, RunError> {
        let id = self.id(propose.round, number);
        let trace = Trace {
            id: id.clone(),
            run: self.brief.run.clone(),
            round: propose.round,
            example: wanted.example.id.clone(),
            generator: generator.to_owned(),
            sampler,
            seed: wanted.seed,
            prompt: wanted.example.prompt.clone(),
            text: text.clone(),
        };
        self.brief.recorder.record(Record::Trace(trace)).await?;
        Ok(Proposal {
            id,
            example: wanted.example.clone(),
            text,
            generator: generator.to_owned(),
            flaw: None,
        })
    }

    async fn verified(&self, step: u64, mut proposals: Vec<Proposal>) -> Result<Vec<Proposal>, RunError> {
        let traces = proposals
            .iter()
            .map(|one| (one.text.clone(), one.example.answer.clone().unwrap_or_default()))
            .collect();
        let verify = Verify {
            step,
            traces: Arc::new(traces),
        };
        let flaws = self.scorer.ask(verify).await??;
        for (proposal, flaw) in proposals.iter_mut().zip(flaws) {
            proposal.flaw = flaw;
        }
        Ok(proposals)
    }

    async fn alert(&self, step: u64, message: String) -> Result<(), RunError> {
        let alert = Alert {
            run: self.brief.run.clone(),
            step,
            level: Level::Warn,
            kind: "teacher".to_owned(),
            message,
        };
        Ok(self.brief.recorder.record(Record::Alert(alert)).await?)
    }
}

#[cfg(test)]
mod tests;
