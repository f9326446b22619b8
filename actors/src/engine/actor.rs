//! The engine host: an actor that owns one engine process. It dies with its engine, and the supervisor makes another
//! (law L1).
//!
//! All requests are passed to the engine at once; the engine orders them. A new engine holds none of the weights that a
//! dead one had loaded, so the sender must load a checkpoint again.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use actix::prelude::*;
use demask_api::{Answer, DeviceInfo, EngineError, Request, SampleFrame};
use demask_storage::ActorState;
use tokio::sync::{OnceCell, oneshot};

use crate::engine::process::{EngineFailure, EngineOptions};
use crate::engine::starter::{EngineStarter, RunningEngine};
use crate::runtime::supervisor::{Address, Life, SupervisorHandle};

/// A receiver of denoising frames.
pub type FrameSink = Arc<dyn Fn(SampleFrame) + Send + Sync>;

/// The message that sends a request to the engine.
#[derive(Message)]
#[rtype(result = "Result<Answer, EngineFailure>")]
pub struct Ask {
    /// The request.
    pub request: Request,
    /// Receiver of its denoising frames.
    pub frames: Option<FrameSink>,
    /// A channel whose other end is dropped when the request is cancelled. The wait for the engine then ends.
    pub waited_for: oneshot::Receiver<()>,
}

/// The message that asks for the engine's process id and device.
#[derive(Debug, Message)]
#[rtype(result = "Result<(u32, DeviceInfo), EngineFailure>")]
pub struct Who;

/// The message that ends the engine. No other one is made.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FinishEngine;

/// The actor that owns an engine.
pub struct EngineHost {
    life: Life,
    options: EngineOptions,
    starter: Arc<dyn EngineStarter>,
    /// The engine, started at the first request.
    engine: EngineCell,
    /// Whether this engine was asked to load a model.
    has_model: bool,
    /// Number of engines that died or could not be started.
    deaths: Arc<AtomicU64>,
    /// Whether this engine is one of them.
    is_lost: bool,
}

/// A cell for the engine, empty until it is started. It is used on the actor's thread only.
type EngineCell = Rc<OnceCell<Box<dyn RunningEngine>>>;

impl EngineHost {
    /// Makes a host whose engine is started at the first request. The death of the engine is counted in `deaths`.
    #[must_use]
    pub fn new(
        life: Life,
        options: EngineOptions,
        starter: Arc<dyn EngineStarter>,
        deaths: Arc<AtomicU64>,
    ) -> Self {
        Self {
            life,
            options,
            starter,
            engine: Rc::default(),
            has_model: false,
            deaths,
            is_lost: false,
        }
    }

    /// Marks the engine as dead, which several requests may find at the same time.
    fn lose(&mut self, why: &EngineFailure) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.deaths.fetch_add(1, Relaxed);
        }
        self.life.failed(why.to_string());
    }

    /// L1: returns whether a request assumes weights that an earlier engine had loaded.
    ///
    /// Its sender may not know that the earlier engine died, because another sender was waiting for it at the time. It
    /// must load a checkpoint again, as after any death.
    fn is_asked_for_another(&mut self, request: &Request) -> bool {
        self.has_model |= matches!(request, Request::Load { .. });
        self.life.generation > 0 && !self.has_model && needs_model(request)
    }

    /// Clones what the request's future needs, because it outlives this call.
    fn parts(&self) -> (EngineCell, EngineOptions, Arc<dyn EngineStarter>) {
        (
            Rc::clone(&self.engine),
            self.options.clone(),
            Arc::clone(&self.starter),
        )
    }
}

impl Actor for EngineHost {
    type Context = Context<Self>;
}

async fn running<'a>(
    engine: &'a OnceCell<Box<dyn RunningEngine>>,
    options: &EngineOptions,
    starter: &dyn EngineStarter,
) -> Result<&'a dyn RunningEngine, EngineFailure> {
    let started = engine.get_or_try_init(|| starter.start(options)).await?;
    Ok(&**started)
}

impl Handler<Ask> for EngineHost {
    type Result = ResponseActFuture<Self, Result<Answer, EngineFailure>>;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Self::Result {
        let handling = self.life.probe.handle(name(&ask.request));
        if self.is_asked_for_another(&ask.request) {
            let gone = dead("the one before it had the weights");
            handling.end(gone.to_string());
            return Box::pin(std::future::ready(Err(gone)).into_actor(self));
        }
        let (engine, options, starter) = self.parts();
        let work = async move {
            let engine = running(&engine, &options, &*starter).await?;
            let sink = ask.frames;
            let mut on_frame = move |frame| sink.iter().for_each(|sink| sink(SampleFrame::clone(&frame)));
            tokio::select! {
                biased;
                answer = engine.ask(&ask.request, &mut on_frame) => answer,
                // This channel carries no value; it ends when its sender is dropped.
                _ = ask.waited_for => Err(abandoned()),
            }
        };
        Box::pin(work.into_actor(self).map(|answer, host, ctx| {
            handling.end(
                answer
                    .as_ref()
                    .err()
                    .map_or_else(|| "ok".to_owned(), ToString::to_string),
            );
            if let Err(failure @ (EngineFailure::Died { .. } | EngineFailure::Start { .. })) = &answer {
                host.lose(failure);
                ctx.stop();
            }
            answer
        }))
    }
}

impl Handler<Who> for EngineHost {
    type Result = ResponseFuture<Result<(u32, DeviceInfo), EngineFailure>>;

    fn handle(&mut self, _: Who, _: &mut Self::Context) -> Self::Result {
        let (engine, options, starter) = self.parts();
        Box::pin(async move { Ok(running(&engine, &options, &*starter).await?.who()) })
    }
}

impl Handler<FinishEngine> for EngineHost {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: FinishEngine, _: &mut Self::Context) -> Self::Result {
        self.life.probe.say(ActorState::Stopped, "finishing");
        let engine = Rc::clone(&self.engine);
        let work = async move {
            if let Some(engine) = engine.get() {
                engine.stop().await;
            }
        };
        Box::pin(work.into_actor(self).map(|(), host, ctx| {
            host.life.done();
            ctx.stop();
        }))
    }
}

/// The address of the present engine, with a count of the time that engines have computed for it.
#[derive(Clone)]
pub struct EngineAddress {
    host: Address<EngineHost>,
    name: String,
    options: EngineOptions,
    starter: Arc<dyn EngineStarter>,
    /// Number of engines of this address that died or could not be started.
    deaths: Arc<AtomicU64>,
    /// Computing time in microseconds.
    computed: Arc<AtomicU64>,
    /// Requests that are not answered yet.
    asked: Arc<AtomicUsize>,
}

impl EngineAddress {
    /// Spawns an engine host under the supervisor.
    #[must_use]
    pub fn spawn(
        supervisor: &SupervisorHandle,
        name: &str,
        options: EngineOptions,
        starter: Arc<dyn EngineStarter>,
    ) -> Self {
        let deaths = Arc::default();
        Self {
            host: spawn_host(supervisor, name, &options, &starter, &deaths),
            name: name.to_owned(),
            options,
            starter,
            deaths,
            computed: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Spawns a host for engines of this many ranks in place of the present one, with a restart budget of its own. The
    /// counts go on. The present engine must have ended, and earlier addresses must not be used any more.
    #[must_use]
    pub fn with_ranks(&self, supervisor: &SupervisorHandle, ranks: usize) -> Self {
        let options = EngineOptions {
            ranks: Some(ranks),
            ..self.options.clone()
        };
        Self {
            host: spawn_host(supervisor, &self.name, &options, &self.starter, &self.deaths),
            options,
            ..self.clone()
        }
    }

    /// Returns the number of processes that train together; `None` for one process without ranks.
    #[must_use]
    pub fn ranks(&self) -> Option<usize> {
        self.options.ranks
    }

    /// Returns how often an engine of this address died or could not be started.
    #[must_use]
    pub fn deaths(&self) -> u64 {
        self.deaths.load(Relaxed)
    }

    /// Returns whether engines died so often that the supervisor starts no other one.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.host.is_given_up()
    }

    /// Notes that the user wants the run to end. From now on an engine that hangs is given up within seconds (law L10).
    pub fn hurry(&self) {
        self.options.urgency.set();
    }

    /// Returns whether [`Self::hurry`] was called.
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.options.urgency.is_set()
    }

    /// Returns the number of requests that are not answered yet.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }

    /// Returns the seconds that engines have computed for this address, by the engines' own clocks. Transport and
    /// queueing are not counted.
    #[must_use]
    pub fn computed(&self) -> f64 {
        self.computed.load(Relaxed) as f64 * 1e-6
    }

    /// Sends a request to the present engine. Waits while the host is restarted.
    ///
    /// # Errors
    /// Any [`EngineFailure`]; [`EngineFailure::Died`] also if the host died or the supervisor gave it up.
    pub async fn ask(&self, request: Request, frames: Option<FrameSink>) -> Result<Answer, EngineFailure> {
        let (_waiting, waited_for) = oneshot::channel();
        let _counted = Counted::new(&self.asked);
        let ask = Ask {
            request,
            frames,
            waited_for,
        };
        let answer = self
            .host()
            .await?
            .send(ask)
            .await
            .map_err(|error| dead(&error.to_string()))??;
        let seconds = own_seconds(&answer);
        self.computed.fetch_add((seconds * 1e6) as u64, Relaxed);
        Ok(answer)
    }

    /// Returns the process id and the device of the present engine.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn who(&self) -> Result<(u32, DeviceInfo), EngineFailure> {
        self.host()
            .await?
            .send(Who)
            .await
            .map_err(|error| dead(&error.to_string()))?
    }

    /// Ends the engine in an orderly way.
    pub async fn finish(&self) {
        if let Ok(host) = self.host().await {
            host.send(FinishEngine).await.ok();
        }
    }

    async fn host(&self) -> Result<Addr<EngineHost>, EngineFailure> {
        self.host
            .get()
            .await
            .ok_or_else(|| dead("no engine stayed alive"))
    }
}

fn spawn_host(
    supervisor: &SupervisorHandle,
    name: &str,
    options: &EngineOptions,
    starter: &Arc<dyn EngineStarter>,
    deaths: &Arc<AtomicU64>,
) -> Address<EngineHost> {
    let (options, starter, deaths) = (options.clone(), Arc::clone(starter), Arc::clone(deaths));
    supervisor.spawn(name, "supervisor", move |life| {
        EngineHost::new(life, options.clone(), Arc::clone(&starter), Arc::clone(&deaths))
    })
}

/// A guard that counts one request while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Returns the computing time that the engine reports in its answer; 0 for quick requests, which report none.
fn own_seconds(answer: &Answer) -> f64 {
    match answer {
        Answer::Trained(report) => report.seconds,
        Answer::PolicyTrained(report) => report.seconds,
        Answer::TokenizerTrained(report) => report.seconds,
        Answer::Samples { seconds, .. }
        | Answer::LogLikelihoods { seconds, .. }
        | Answer::Codes { seconds, .. }
        | Answer::ViewsScored { seconds, .. }
        | Answer::Saved { seconds, .. }
        | Answer::Scores { seconds, .. } => *seconds,
        _ => 0.0,
    }
}

fn abandoned() -> EngineFailure {
    EngineFailure::Engine(EngineError::Refused {
        message: "the request was cancelled".into(),
    })
}

fn dead(why: &str) -> EngineFailure {
    EngineFailure::Died {
        status: why.to_owned(),
        tail: String::new(),
    }
}

/// Returns whether a request uses the loaded model.
const fn needs_model(request: &Request) -> bool {
    !matches!(
        request,
        Request::Hello { .. }
            | Request::Load { .. }
            | Request::Verify { .. }
            | Request::LoadReward { .. }
            | Request::Score { .. }
            | Request::ReadMark { .. }
            | Request::Heartbeat
            | Request::Exit
    )
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "Hello",
        Request::Load { .. } => "Load",
        Request::Train { .. } => "Train",
        Request::Policy { .. } => "Policy",
        Request::ScoreViews(..) => "ScoreViews",
        Request::SetReference { .. } => "SetReference",
        Request::ReadMark { .. } => "ReadMark",
        Request::Sample { .. } => "Sample",
        Request::Aside { .. } => "Aside",
        Request::LogProbs { .. } => "LogProbs",
        Request::LogLikelihoods { .. } => "LogLikelihoods",
        Request::TrainTokenizer { .. } => "TrainTokenizer",
        Request::Encode { .. } => "Encode",
        Request::Decode { .. } => "Decode",
        Request::Save { .. } => "Save",
        Request::Verify { .. } => "Verify",
        Request::LoadReward { .. } => "LoadReward",
        Request::Score { .. } => "Score",
        Request::Heartbeat => "Heartbeat",
        Request::Exit => "Exit",
    }
}
