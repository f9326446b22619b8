//! The Evaluator: a suite's items through the model, judged; as an actor it serves the newest request and drops those
//! that it supersedes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use actix::prelude::*;
use demask_datasets::example::Mode;
use demask_rewards::benchmarks::{
    Item, Judged, Request, Response, Scoring, Suite, SuiteError, SuiteResult, Verdict,
};
use demask_rewards::networks::{self, Pair};
use demask_rewards::verifiers::Verifiers;
use demask_storage::ActorState;

use crate::control::Control;
use crate::engine::actor::EngineAddress;
use crate::engine::link::EngineLink;
use crate::inference::complete::{CompletionRequest, Inference};
use crate::inference::error::WorkError;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::reward_networks::Networks;
use crate::pipeline::run_error::RunError;
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Items that are asked for together: many more than run at one time, so that one joins the running batch as another leaves
/// it. One request after the other, so that what runs beside an item is the same each time (law L8).
const BATCH: usize = 384;
/// Messages that may wait.
const MAILBOX: usize = 4;

/// How a suite is run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// At most this many items.
    pub limit: Option<usize>,
    /// With reasoning or without.
    pub mode: Mode,
    /// The samplers.
    pub samplers: SamplerSettings,
    /// Their seed.
    pub seed: u64,
    /// Reward networks that are asked about drawings, beside the judge.
    pub networks: Option<Networks>,
}

/// Run these suites on the weights that the engine has.
#[derive(Clone, Message)]
#[rtype(result = "Result<Option<Vec<SuiteResult>>, RunError>")]
pub struct Evaluate {
    /// The step.
    pub step: u64,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// The suites' names.
    pub suites: Vec<String>,
    /// How.
    pub trial: Trial,
    /// Ended early when the daemon is.
    pub control: Arc<Control>,
    number: u64,
}

impl Evaluate {
    /// A request; [`EvaluatorHandle::evaluate`] numbers it.
    #[must_use]
    pub fn new(
        step: u64,
        inference: Arc<Inference>,
        suites: Vec<String>,
        trial: Trial,
        control: Arc<Control>,
    ) -> Self {
        Self {
            step,
            inference,
            suites,
            trial,
            control,
            number: 0,
        }
    }
}

/// The actor.
pub struct Evaluator {
    life: Life,
    faults: FaultInjection,
    engine: EngineAddress,
    newest: Arc<AtomicU64>,
}

/// How others reach it.
#[derive(Clone)]
pub struct EvaluatorHandle {
    address: Address<Evaluator>,
    newest: Arc<AtomicU64>,
}

impl EvaluatorHandle {
    /// Asks the supervisor for an Evaluator.
    #[must_use]
    pub fn spawn(supervisor: &SupervisorHandle, engine: EngineAddress, faults: FaultInjection) -> Self {
        let newest = Arc::<AtomicU64>::default();
        let shared = Arc::clone(&newest);
        let address = supervisor.spawn("evaluator", "supervisor", move |life| Evaluator {
            life,
            faults: faults.clone(),
            engine: engine.clone(),
            newest: Arc::clone(&shared),
        });
        Self { address, newest }
    }

    /// The results; none when a newer request came, or the daemon is ending: nothing is known then.
    ///
    /// # Errors
    /// The engine's; an unknown suite.
    pub async fn evaluate(&self, request: Evaluate) -> Result<Option<Vec<SuiteResult>>, RunError> {
        let number = self.newest.fetch_add(1, Relaxed) + 1;
        self.address.ask(Evaluate { number, ..request }).await?
    }
}

impl Actor for Evaluator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Evaluator {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Evaluate> for Evaluator {
    type Result = AtomicResponse<Self, Result<Option<Vec<SuiteResult>>, RunError>>;

    fn handle(&mut self, request: Evaluate, _: &mut Self::Context) -> Self::Result {
        let (engine, newest, faults) = (self.engine.clone(), Arc::clone(&self.newest), self.faults.clone());
        let probe = self.life.probe.clone();
        handle_message(self, "Evaluate", async move {
            let wanted = || newest.load(Relaxed) == request.number && !request.control.halting();
            let mut results = Vec::new();
            for name in &request.suites {
                let suite = Suite::find(name)
                    .ok_or_else(|| RunError::Failed(format!("no suite {name}; see `demask eval --list`")))?;
                let mut whole = wanted();
                if whole {
                    let go_on = &mut |done: usize, all: usize| {
                        let how_far = format!("{name} {done} of {all}");
                        probe.say(ActorState::Busy, &how_far);
                        request.control.report(|overview| overview.detail = how_far);
                        whole = wanted() || done == all;
                        whole
                    };
                    let suite = run_suite(&request.inference, &engine, &suite, &request.trial, go_on);
                    tokio::select! {
                        result = suite => results.push(result?),
                        // The engine lets go of what nobody waits for.
                        () = request.control.halted() => return Ok(None),
                    }
                }
                if !whole {
                    return Ok(None);
                }
            }
            faults.strike("evaluator", request.step);
            Ok(Some(results))
        })
    }
}

/// Runs a suite. `progress` is told how many items are done; it ends the suite early by returning false.
///
/// # Errors
/// The engine's.
pub async fn run_suite(
    inference: &Inference,
    link: &dyn EngineLink,
    suite: &Suite,
    trial: &Trial,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<SuiteResult, WorkError> {
    let items = suite.items(trial.limit)?;
    let judge = suite.judge()?;
    let mut judged: Vec<Judged> = Vec::with_capacity(items.len());
    let mut said = Vec::new();
    for (number, batch) in items.chunks(BATCH).enumerate() {
        let (right, drawn) = judge_batch(
            inference,
            link,
            (suite, judge.verifiers()),
            trial,
            number * BATCH,
            batch,
        )
        .await?;
        judged.extend(right);
        if let Some(networks) = trial.networks.as_ref().filter(|_| !drawn.is_empty()) {
            said.extend(networks.ask(link, drawn).await?);
        }
        if !progress(judged.len(), items.len()) {
            break;
        }
    }
    Ok(SuiteResult {
        networks: networks::means(&said),
        ..suite.aggregate(&judged)
    })
}

/// Items with their verdicts, and what was drawn for those that a result's `n` counts.
type Batch = (Vec<Judged>, Vec<Pair>);

/// Judges the items from the `first` on.
async fn judge_batch(
    inference: &Inference,
    link: &dyn EngineLink,
    (suite, verifiers): (&Suite, &Verifiers),
    trial: &Trial,
    first: usize,
    batch: &[Item],
) -> Result<Batch, WorkError> {
    let wanted = |(at, item): (usize, &Item)| -> Result<(Item, CompletionRequest), SuiteError> {
        let Request::Generate { may_think } = suite.request(item) else {
            return Err(unsupported(suite, "log-likelihoods of choices"));
        };
        let wanted = CompletionRequest {
            example: item.example.clone(),
            mode: if may_think { trial.mode } else { Mode::Direct },
            seed: trial
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add((first + at) as u64),
            watch: None,
        };
        Ok((item.clone(), wanted))
    };
    let wanted: Vec<_> = batch.iter().enumerate().map(wanted).collect::<Result<_, _>>()?;
    // An item that the model cannot even be asked counts as wrong: no figure is bettered by leaving it out.
    let (fitting, too_long): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .partition(|(_, wanted)| inference.fits(&wanted.example, wanted.mode).is_ok());
    let (items, wanted): (Vec<Item>, Vec<CompletionRequest>) = fitting.into_iter().unzip();
    let (mut judged, mut drawn) = (Vec::with_capacity(batch.len()), Vec::new());
    if !wanted.is_empty() {
        let made = inference.complete(link, &wanted, &trial.samplers, None).await?;
        for (item, made) in items.into_iter().zip(made) {
            let response = Response::Completion(&made.completion);
            let Scoring::Done(verdict) = suite.score(&item, &response, verifiers) else {
                return Err(unsupported(suite, "a judge model").into());
            };
            if !item.example.held_out {
                let pair = networks::pair(&item.example, &made.completion);
                drawn.extend(pair.filter(|pair| pair.drawn));
            }
            judged.push(Judged { item, verdict });
        }
    }
    judged.extend(too_long.into_iter().map(|(item, _)| Judged {
        item,
        verdict: Verdict::from(false),
    }));
    Ok((judged, drawn))
}

/// What a suite asks for and no engine answers yet.
fn unsupported(suite: &Suite, what: &'static str) -> SuiteError {
    SuiteError::Unsupported {
        suite: suite.name(),
        what,
    }
}
