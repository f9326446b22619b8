//! The Curator: the actor that owns the sources, their cursors and the accepted traces, and answers demands for
//! examples.
//!
//! The examples of a step are a pure function of seed, step, mix and pool (law L8), so a restarted Curator gives the
//! same answers. The pool of traces outlives a life; everything else is read again. L2: the Curator pushes nothing. It
//! handles one request at a time, on a thread of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use demask_datasets::example::Example;
use demask_datasets::prompts::sequences::SequenceBuilder;

use crate::control::Control;
use crate::pipeline::curation::mixture::{Accepted, Mixture};
use crate::pipeline::curation::sources::SourceError;
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::run_error::RunError;
use crate::profile::Profile;
use crate::runtime::actor::{Supervised, handle_message, offload};
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// Capacity of the mailbox.
const MAILBOX: usize = 4;

/// The settings of the Curator for a run.
#[derive(Clone)]
pub struct CuratorSettings {
    /// Profile with the sources and the seed.
    pub profile: Arc<Profile>,
    /// Id of the run, for rows.
    pub run: String,
    /// Recorder of the reports about reading.
    pub recorder: Recorder,
    /// Folder in which packed sources are unpacked into files without a name.
    pub room: PathBuf,
    /// Control of the run: it takes progress reports, and says when the daemon is ending.
    pub control: Arc<Control>,
}

impl CuratorSettings {
    /// Reports the progress of reading. Returns whether to go on.
    fn told(&self, what: &str, source: &str, rows: u64) -> bool {
        if rows > 0 {
            let detail = format!("{what} source {source}: {rows} rows");
            self.control.report(|overview| overview.detail = detail);
        }
        !self.control.is_halting()
    }
}

/// The demand for a step's examples.
#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "Result<Vec<TrainingExample>, RunError>")]
pub struct Demand {
    /// The step.
    pub step: u64,
    /// Number of examples.
    pub size: usize,
    /// Present weights of the sources.
    pub mix: BTreeMap<String, f64>,
    /// Sources to draw from; all when empty.
    pub only: Vec<String>,
    /// Share of the examples with reasoning that keep it; the others are direct.
    pub think_share: f64,
}

/// The request to add verified traces to the pool. A repetition has the same result, because the pool is first cut to
/// `after` traces (law L1).
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Taken, RunError>")]
pub struct Take {
    /// The step that adds them.
    pub step: u64,
    /// Length of the pool before.
    pub after: usize,
    /// The traces, in order.
    pub candidates: Vec<Accepted>,
}

/// The outcome for a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceOutcome {
    /// It was added to the pool.
    Fresh,
    /// An equal trace is in the pool.
    Known,
    /// It overlaps a benchmark (law L6), with the reason.
    Overlaps(String),
}

/// The outcome for all traces of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Outcome for each trace.
    pub outcomes: Vec<TraceOutcome>,
    /// The pool after the request.
    pub pool: Vec<Accepted>,
}

/// The request to set the pool, at the beginning of a life of the run.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct Restore(pub Vec<Accepted>);

/// The request to measure every example that was read against the budgets of this sequence builder, before the first
/// step.
#[derive(Clone, Message)]
#[rtype(result = "Result<(), RunError>")]
pub struct Measure(pub SequenceBuilder);

/// The request for texts on which a tokenizer is trained from scratch.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Vec<String>, RunError>")]
pub struct Corpus;

/// The pool of traces, which outlives a life.
type Pool = Arc<Mutex<Vec<Accepted>>>;
/// The mixture of this life, opened at the first demand.
type CachedMixture = Arc<Mutex<Option<Mixture>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Curator actor.
pub struct Curator {
    life: Life,
    brief: CuratorSettings,
    faults: FaultInjection,
    pool: Pool,
    cached: CachedMixture,
}

impl Curator {
    /// Spawns a Curator under the supervisor.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        brief: CuratorSettings,
        faults: FaultInjection,
    ) -> Address<Self> {
        let pool = Pool::default();
        supervisor.spawn("curator", "supervisor", move |life| Self {
            life,
            brief: brief.clone(),
            faults: faults.clone(),
            pool: Arc::clone(&pool),
            cached: CachedMixture::default(),
        })
    }

    /// Runs work with the mixture on a thread of its own, and records the reports of reading.
    fn with_mixture<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Mixture) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, RunError>> + 'static {
        let (brief, cached, pool) = (
            self.brief.clone(),
            Arc::clone(&self.cached),
            Arc::clone(&self.pool),
        );
        async move {
            let (profile, telling) = (Arc::clone(&brief.profile), brief.clone());
            let (done, reports) = offload(move || {
                let mut cached = lock(&cached);
                let mixture = match &mut *cached {
                    Some(mixture) => mixture,
                    empty => {
                        let mut told = |source: &str, rows| telling.told("reading", source, rows);
                        let opened = Mixture::open(&profile, &telling.room, &mut told);
                        empty.insert(opened?)
                    }
                };
                mixture.traces.clone_from(&lock(&pool));
                let done = work(mixture);
                Ok::<_, RunError>((done, mixture.take_reports()))
            })
            .await??;
            for report in reports {
                brief.recorder.record(report.record(&brief.run)).await?;
            }
            Ok(done)
        }
    }
}

impl Actor for Curator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.life.probe.queue(0, MAILBOX as u64);
    }
}

impl Supervised for Curator {
    fn life(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Handler<Demand> for Curator {
    type Result = AtomicResponse<Self, Result<Vec<TrainingExample>, RunError>>;

    fn handle(&mut self, draw: Demand, _: &mut Self::Context) -> Self::Result {
        let faults = self.faults.clone();
        let work = self.with_mixture(move |mixture| {
            faults.strike("curator", draw.step);
            mixture.batch(draw.step, draw.size, &draw.mix, &draw.only, draw.think_share)
        });
        handle_message(self, "Draw", said(work))
    }
}

impl Handler<Take> for Curator {
    type Result = AtomicResponse<Self, Result<Taken, RunError>>;

    fn handle(&mut self, take: Take, _: &mut Self::Context) -> Self::Result {
        let (pool, faults) = (Arc::clone(&self.pool), self.faults.clone());
        let examples: Vec<Example> = take
            .candidates
            .iter()
            .map(|candidate| candidate.example.clone())
            .collect();
        let overlaps = self.with_mixture(move |mixture| mixture.check_traces(&examples));
        handle_message(self, "Take", async move {
            faults.strike("curator", take.step);
            let overlaps = overlaps.await?;
            let mut pool = lock(&pool);
            pool.truncate(take.after);
            let mut outcomes = Vec::new();
            for (candidate, overlap) in take.candidates.into_iter().zip(overlaps) {
                let known = pool.iter().any(|kept| kept.example.id == candidate.example.id);
                outcomes.push(match overlap {
                    Some(why) => TraceOutcome::Overlaps(why),
                    None if known => TraceOutcome::Known,
                    None => {
                        pool.push(candidate);
                        TraceOutcome::Fresh
                    }
                });
            }
            Ok(Taken {
                outcomes,
                pool: pool.clone(),
            })
        })
    }
}

impl Handler<Restore> for Curator {
    type Result = AtomicResponse<Self, Result<(), RunError>>;

    fn handle(&mut self, restore: Restore, _: &mut Self::Context) -> Self::Result {
        *lock(&self.pool) = restore.0;
        // Sources that cannot be read are reported at the beginning of a run and not at its first step.
        let work = self.with_mixture(|_| ());
        handle_message(self, "Restore", work)
    }
}

impl Handler<Corpus> for Curator {
    type Result = AtomicResponse<Self, Result<Vec<String>, RunError>>;

    fn handle(&mut self, _: Corpus, _: &mut Self::Context) -> Self::Result {
        let work = self.with_mixture(Mixture::corpus);
        handle_message(self, "Corpus", said(work))
    }
}

impl Handler<Measure> for Curator {
    type Result = AtomicResponse<Self, Result<(), RunError>>;

    fn handle(&mut self, measure: Measure, _: &mut Self::Context) -> Self::Result {
        let brief = self.brief.clone();
        let work = self.with_mixture(move |mixture| {
            let mut told = |source: &str, rows| brief.told("measuring", source, rows);
            mixture.measure(&brief.profile, &measure.0, &mut told)
        });
        handle_message(self, "Measure", said(work))
    }
}

/// Converts an error of the sources to the run's error.
async fn said<T>(
    work: impl Future<Output = Result<Result<T, SourceError>, RunError>>,
) -> Result<T, RunError> {
    Ok(work.await??)
}
