//! The Evaluator: it runs a suite's items through the model and has them judged. As an actor it serves the newest
//! request and drops the requests that it supersedes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use actix::prelude::*;
use demask_datasets::example::{Example, Mode};
use demask_rewards::benchmarks::{
    Item, ItemRequest, Judged, Response, Scoring, Suite, SuiteError, SuiteResult,
};
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::networks::{self, Pair};
use demask_storage::ActorState;

use super::item_result::ItemResult;
use super::judges::Given;
use super::trial::Trial;
use crate::control::Control;
use crate::engine::link::EngineLink;
use crate::inference::complete::{CompletionRequest, Inference};
use crate::inference::error::WorkError;
use crate::inference::likelihood::{LikelihoodRequest, in_words};
use crate::pipeline::external_rewards::ExternalRewards;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{Drawers, PublishedPolicy};
use crate::runtime::actor::{Supervised, handle_message};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Items per request. They are many more than run at a time, so that an item can join the running batch as another
/// leaves it. Requests follow one another, so that the neighbours of an item are the same each time (law L8).
pub const BATCH: usize = 384;
/// Capacity of the mailbox.
const MAILBOX: usize = 4;

/// The request to run these suites with the present weights.
#[derive(Clone, Message)]
#[rtype(result = "Result<Option<Vec<SuiteRun>>, RunError>")]
pub struct Evaluate {
    /// The step.
    pub step: u64,
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// The suites.
    pub suites: Vec<Suite>,
    /// Settings of the evaluation.
    pub trial: Trial,
    /// The present weights, as the sampling engines load them; `None`: the training engine evaluates.
    pub policy: Option<PublishedPolicy>,
    /// Control of the run. The evaluation ends early when it says that the run is ending.
    pub control: Arc<Control>,
    number: u64,
}

impl Evaluate {
    /// Makes a request, which [`EvaluatorHandle::evaluate`] numbers.
    #[must_use]
    pub fn new(
        step: u64,
        inference: Arc<Inference>,
        suites: Vec<Suite>,
        trial: Trial,
        policy: Option<PublishedPolicy>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            step,
            inference,
            suites,
            trial,
            policy,
            control,
            number: 0,
        }
    }
}

/// The Evaluator actor.
pub struct Evaluator {
    life: Life,
    faults: FaultInjection,
    drawers: Drawers,
    external: Option<ExternalRewards>,
    newest: Arc<AtomicU64>,
}

/// The handle through which others use the Evaluator.
#[derive(Clone)]
pub struct EvaluatorHandle {
    address: Address<Evaluator>,
    newest: Arc<AtomicU64>,
}

impl EvaluatorHandle {
    /// Spawns an Evaluator under the supervisor, with the external rewards that may score suites.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        drawers: Drawers,
        external: Option<ExternalRewards>,
        faults: FaultInjection,
    ) -> Self {
        let newest = Arc::<AtomicU64>::default();
        let shared = Arc::clone(&newest);
        let address = supervisor.spawn("evaluator", "supervisor", move |life| Evaluator {
            life,
            faults: faults.clone(),
            drawers: drawers.clone(),
            external: external.clone(),
            newest: Arc::clone(&shared),
        });
        Self { address, newest }
    }

    /// Returns the results; `None` if a newer request came or the run is ending, because then there is no complete
    /// result.
    ///
    /// # Errors
    /// Any failure of the engine; an error if a suite is unknown.
    pub async fn evaluate(&self, request: Evaluate) -> Result<Option<Vec<SuiteRun>>, RunError> {
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
    type Result = AtomicResponse<Self, Result<Option<Vec<SuiteRun>>, RunError>>;

    fn handle(&mut self, mut request: Evaluate, _: &mut Self::Context) -> Self::Result {
        request.trial.external.clone_from(&self.external);
        let (drawers, newest, faults) = (
            self.drawers.clone(),
            Arc::clone(&self.newest),
            self.faults.clone(),
        );
        let probe = self.life.probe.clone();
        handle_message(self, "Evaluate", async move {
            let wanted = || newest.load(Relaxed) == request.number && !request.control.is_halting();
            let link = drawers.link(request.policy.as_ref());
            let mut results = Vec::new();
            for suite in &request.suites {
                let name = suite.name();
                let mut whole = wanted();
                if whole {
                    let mut follower = ProgressFollower(|done: usize, all: usize| {
                        let how_far = format!("{name} {done} of {all}");
                        probe.say(ActorState::Busy, &how_far);
                        request.control.report(|overview| overview.detail = how_far);
                        whole = wanted() || done == all;
                        whole
                    });
                    let suite = run_suite(&request.inference, &*link, suite, &request.trial, &mut follower);
                    tokio::select! {
                        result = suite => results.push(result?),
                        // L10: the user's stop does not wait for hundreds of items. The engine drops a request that
                        // nobody waits for.
                        () = request.control.ends() => return Ok(None),
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

/// A watcher that follows only the progress of a suite.
struct ProgressFollower<F>(F);

impl<F: FnMut(usize, usize) -> bool> SuiteWatcher for ProgressFollower<F> {
    fn progress(&mut self, done: usize, all: usize) -> bool {
        (self.0)(done, all)
    }
}

/// The result of a suite, with all its items in order.
#[derive(Clone, Debug)]
pub struct SuiteRun {
    /// The result.
    pub result: SuiteResult,
    /// The items.
    pub items: Vec<ItemResult>,
}

impl SuiteRun {
    /// Returns the credit of each counted item, in order.
    #[must_use]
    pub fn credits(&self) -> Vec<f64> {
        let counted = self.items.iter().filter(|item| item.is_counted());
        counted.map(|item| item.judged.verdict.credit).collect()
    }
}

/// A watcher of a running suite.
pub trait SuiteWatcher {
    /// Returns the result of an item that is known already, so that the item is not asked again.
    fn known(&mut self, _number: usize, _item: &Item) -> Option<ItemResult> {
        None
    }

    /// Takes items that were judged just now.
    ///
    /// # Errors
    /// An error if they cannot be stored. It ends the suite.
    fn judged(&mut self, _items: &[ItemResult]) -> Result<(), WorkError> {
        Ok(())
    }

    /// Notes how many items of all are done. Returning false ends the suite early.
    fn progress(&mut self, done: usize, all: usize) -> bool;
}

/// Runs a suite. An item that the watcher knows is not asked again.
///
/// # Errors
/// Any failure of the engine; any error of the watcher.
pub async fn run_suite(
    inference: &Inference,
    link: &dyn EngineLink,
    suite: &Suite,
    trial: &Trial,
    watcher: &mut dyn SuiteWatcher,
) -> Result<SuiteRun, RunError> {
    let own = as_protocol_says(inference, suite, trial);
    let (inference, trial) = own
        .as_ref()
        .map_or((inference, trial), |(inference, trial)| (inference, trial));
    let once = suite.items(trial.limit).map_err(WorkError::from)?;
    let count = once.len();
    // A sample's items are numbered behind those of the sample before, and a number has noise of its own.
    let item = |number: usize| &once[number % count];
    let is_ours = |number: usize| trial.shard.is_none_or(|(part, parts)| number % parts + 1 == part);
    let numbers: Vec<usize> = (0..count * trial.samples)
        .filter(|number| is_ours(*number))
        .collect();
    let all = numbers.len();
    let judge = suite.judge().map_err(WorkError::from)?;
    let (mut items, mut open, mut said) = (Vec::with_capacity(all), Vec::new(), Vec::new());
    for number in numbers {
        match watcher.known(number, item(number)) {
            Some(known) => items.push(known),
            None => open.push(number),
        }
    }
    let mut go_on = open.is_empty() || items.is_empty() || watcher.progress(items.len(), all);
    for batch in open.chunks(trial.batch) {
        if !go_on {
            break;
        }
        let began = Instant::now();
        let batch: Vec<(usize, Item)> = batch
            .iter()
            .map(|&number| (number, item(number).clone()))
            .collect();
        let (mut right, drawn) = judge_batch(inference, link, (suite, &judge), trial, &batch).await?;
        if let Some(networks) = trial.networks.as_ref().filter(|_| !drawn.is_empty()) {
            said.extend(networks.ask(link, drawn).await?);
        }
        let seconds = began.elapsed().as_secs_f64() / batch.len() as f64;
        right.iter_mut().for_each(|item| item.seconds = seconds);
        watcher.judged(&right)?;
        // The pictures of many thousand items would fill the memory, so those that were decoded for this batch are
        // dropped.
        for item in &mut right {
            item.let_go_of_pictures();
        }
        items.extend(right);
        go_on = watcher.progress(items.len(), all);
    }
    items.sort_by_key(|item| item.number);
    let sampled = items.chunk_by(|one, next| one.number / count == next.number / count);
    let judged: Vec<Vec<Judged>> = sampled
        .map(|items| items.iter().map(|item| item.judged.clone()).collect())
        .collect();
    let mut networks = networks::means(&said);
    if trial.samples > 1 {
        // An interval over all scores would treat the samples of one item as independent items, so there is
        // none.
        networks
            .values_mut()
            .for_each(|mean| (mean.low, mean.high) = (None, None));
    }
    let result = SuiteResult {
        networks,
        ..suite.aggregate_samples(&judged)
    };
    let judge = trial.judges.model.as_ref().map(|model| model.name());
    let result = labelled(result, suite, &items, (trial.likelihood.named(), judge));
    Ok(SuiteRun { result, items })
}

/// Adds to a result's protocol what departs from it: the estimator of log-likelihoods, if it is not the published one,
/// and the judge model, if the suite may do without one.
#[must_use]
pub fn labelled(
    result: SuiteResult,
    suite: &Suite,
    items: &[ItemResult],
    (estimator, judge): (Option<&str>, Option<&str>),
) -> SuiteResult {
    let mut protocol = result.protocol;
    let first = items.first().map(|item| suite.request(&item.judged.item));
    if let (Some(ItemRequest::Likelihood { .. }), Some(estimator)) = (first, estimator) {
        // A value from another estimator is not a result of the published protocol.
        protocol = format!("{protocol}, {estimator}");
    }
    if let Some(judge) = judge.filter(|_| suite.may_be_judged()) {
        protocol = format!("{protocol}, judged by {judge}");
    }
    SuiteResult { protocol, ..result }
}

/// Items with their verdicts, and the drawings of the items that the result's `n` counts.
type Batch = (Vec<ItemResult>, Vec<Pair>);

/// Judges numbered items. The seed of an item follows from its number, whatever runs beside it.
async fn judge_batch(
    inference: &Inference,
    link: &dyn EngineLink,
    (suite, judge): (&Suite, &Judge),
    trial: &Trial,
    batch: &[(usize, Item)],
) -> Result<Batch, RunError> {
    let (batch, broken) = with_pictures(inference, suite, trial, batch);
    let mut judged = judge_choices(inference, link, (suite, judge), trial, &batch).await?;
    judged.extend(broken);
    let (mut items, mut wanted) = (Vec::new(), Vec::new());
    for (number, item) in &batch {
        let ItemRequest::Generate { may_think } = suite.request(item) else {
            continue;
        };
        // An item that does not fit into the model's lengths counts as wrong, because leaving it out would improve the
        // result.
        let mode = if may_think { trial.mode } else { Mode::Direct };
        if let Err(why) = inference.fits(&item.example, mode) {
            judged.push(ItemResult::too_long(*number, item.clone(), why.to_string()));
            continue;
        }
        items.push((*number, item.clone()));
        wanted.push(CompletionRequest {
            example: item.example.clone(),
            mode,
            seed: item_seed(trial, *number),
            watch: None,
        });
    }
    let mut drawn = Vec::new();
    if wanted.is_empty() {
        return Ok((judged, drawn));
    }
    let made = inference.complete(link, &wanted, &trial.samplers, None).await?;
    let said: Vec<&Completion> = made.iter().map(|made| &made.completion).collect();
    let given = Given {
        suite: (suite, judge),
        items: &items,
        wanted: &wanted,
        said: &said,
    };
    let verdicts = given.verdicts(link, trial).await?;
    for (((number, item), made), (verdict, reply)) in items.into_iter().zip(made).zip(verdicts) {
        if !item.example.held_out {
            let pair = networks::pair(&item.example, &made.completion);
            drawn.extend(pair.filter(|pair| pair.drawn));
        }
        judged.push(ItemResult {
            forwards: made.forwards,
            reply,
            ..ItemResult::answered(number, item, verdict, made.completion, judge)
        });
    }
    Ok((judged, drawn))
}

/// Decodes the pictures of items, and separates the items that cannot be asked.
fn with_pictures(
    inference: &Inference,
    suite: &Suite,
    trial: &Trial,
    batch: &[(usize, Item)],
) -> (Vec<(usize, Item)>, Vec<ItemResult>) {
    let (mut whole, mut broken) = (Vec::with_capacity(batch.len()), Vec::new());
    let size = inference.size().or(trial.size);
    for (number, item) in batch {
        let mut item = match size.filter(|_| item.picture.is_some()) {
            Some(size) => suite.with_picture(item, size),
            None => item.clone(),
        };
        if item.picture.is_some() && item.broken.is_none() {
            item.broken = Some("the model cannot read pictures".to_owned());
        }
        if trial.cuts {
            cut_to_fit(inference, suite, &mut item);
        }
        match item.broken.clone() {
            Some(why) => broken.push(ItemResult::too_long(*number, item, why)),
            None => whole.push((*number, item)),
        }
    }
    (whole, broken)
}

/// Removes as much of the beginning of an item's prompt as it must lose to fit.
fn cut_to_fit(inference: &Inference, suite: &Suite, item: &mut Item) {
    let request = suite.request(item);
    let fits = |example: &Example| match &request {
        ItemRequest::Likelihood { choices, .. } => inference.choices_fit(example, choices).is_ok(),
        ItemRequest::Generate { .. } => inference.fits(example, Mode::Direct).is_ok(),
    };
    if fits(&item.example) {
        return;
    }
    let mut example = item.example.clone();
    example.turns.clear();
    let starts: Vec<usize> = item.example.prompt.char_indices().map(|(at, _)| at).collect();
    // Finds the shortest beginning whose removal makes the prompt fit; removing more would fit too.
    let lost = starts.partition_point(|start| {
        example.prompt = item.example.prompt[*start..].to_owned();
        !fits(&example)
    });
    let start = starts.get(lost).copied().unwrap_or(item.example.prompt.len());
    example.prompt = item.example.prompt[start..].to_owned();
    item.example = example;
}

/// Returns the inference and the samplers that a protocol prescribes: answers of its length, at temperature 0.
fn as_protocol_says(inference: &Inference, suite: &Suite, trial: &Trial) -> Option<(Inference, Trial)> {
    let decoding = suite.protocol().decoding?;
    let mut trial = trial.clone();
    trial.samplers.text.steps = decoding.steps;
    trial.samplers.text.block = decoding.block;
    trial.samplers.text.temperature = 0.0;
    Some((inference.with_answers(decoding.tokens), trial))
}

/// Returns the seed of an item.
fn item_seed(trial: &Trial, number: usize) -> u64 {
    trial.seed.wrapping_mul(1_000_003).wrapping_add(number as u64)
}

/// Judges the items of a batch that need log-likelihoods of choices, and no others.
async fn judge_choices(
    inference: &Inference,
    link: &dyn EngineLink,
    (suite, judge): (&Suite, &Judge),
    trial: &Trial,
    batch: &[(usize, Item)],
) -> Result<Vec<ItemResult>, RunError> {
    let (mut items, mut wanted, mut judged) = (Vec::new(), Vec::new(), Vec::new());
    for (number, item) in batch {
        let ItemRequest::Likelihood {
            choices,
            samples,
            guidance,
        } = suite.request(item)
        else {
            continue;
        };
        if let Err(why) = inference.choices_fit(&item.example, &choices) {
            judged.push(ItemResult::too_long(*number, item.clone(), why.to_string()));
            continue;
        }
        items.push((*number, item));
        wanted.push(LikelihoodRequest {
            example: item.example.clone(),
            choices,
            estimator: trial.likelihood.estimator(samples),
            guidance,
            seed: item_seed(trial, *number),
        });
    }
    let said = inference.log_likelihoods(link, &wanted).await?;
    for (((number, item), wanted), said) in items.into_iter().zip(&wanted).zip(said) {
        let values: Vec<f64> = said.iter().map(|said| said.value).collect();
        match suite.score(item, &Response::Likelihood(&values), judge.verifiers()) {
            Scoring::Done(verdict) => judged.push(ItemResult {
                forwards: said.iter().map(|said| said.forwards).sum(),
                ..ItemResult::chosen(number, item.clone(), verdict, in_words(&wanted.choices, &said))
            }),
            _ => return Err(WorkError::from(unsupported(suite, "a judge of log-likelihoods")).into()),
        }
    }
    Ok(judged)
}

/// Returns the error that a suite needs something that is not available.
fn unsupported(suite: &Suite, what: &'static str) -> SuiteError {
    SuiteError::Unsupported {
        suite: suite.name(),
        what,
    }
}
