//! The engine host: an actor that owns one engine process. It dies with its engine, and the supervisor makes another
//! (law L1).
//!
//! All requests are passed to the engine at once; the engine orders them. A new engine holds none of the weights that a
//! dead one had loaded, so the sender must load a checkpoint again.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use actix::prelude::*;
use demask_api::{Answer, DeviceInfo, EngineError, Request, SampleFrame};
use demask_storage::ActorState;
use tokio::sync::{OnceCell, oneshot};

use crate::engine::options::EngineOptions;
use crate::engine::process::EngineFailure;
use crate::engine::starter::{EngineStarter, RunningEngine};
use crate::runtime::supervisor::Life;

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

fn abandoned() -> EngineFailure {
    EngineFailure::Engine(EngineError::Refused {
        message: "the request was cancelled".into(),
    })
}

pub(super) fn dead(why: &str) -> EngineFailure {
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
