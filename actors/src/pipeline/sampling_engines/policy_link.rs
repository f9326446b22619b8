//! A sampling engine with the weights that it holds, and a link that loads the weights of a request first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_api::{Answer, LoadOptions, ModelSource, Request};

use super::PublishedPolicy;
use crate::engine::actor::{EngineAddress, FrameSink};
use crate::engine::link::EngineLink;
use crate::engine::process::{EngineFailure, unexpected};
use crate::engine::starter::Asking;

/// Tries of a request whose engine dies.
const LIVES: u32 = 3;

/// One sampling engine.
pub(super) struct SamplingEngine {
    engine: EngineAddress,
    /// Weights that it loaded last.
    held: Mutex<Option<PublishedPolicy>>,
    /// Held from the loading of weights to the answer of a request, so that no other request loads others meanwhile.
    turn: tokio::sync::Mutex<()>,
}

impl SamplingEngine {
    pub(super) fn new(engine: EngineAddress) -> Self {
        Self {
            engine,
            held: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the engine's address.
    pub(super) fn address(&self) -> &EngineAddress {
        &self.engine
    }

    /// Returns the weights that the engine holds.
    pub(super) fn held(&self) -> Option<PublishedPolicy> {
        self.lock().clone()
    }

    /// Forgets which weights the engine holds, because it died.
    fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<PublishedPolicy>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads weights, unless the engine holds them.
    async fn load(&self, policy: &PublishedPolicy) -> Result<(), EngineFailure> {
        {
            let mut held = self.lock();
            if held.as_ref() == Some(policy) {
                return Ok(());
            }
            *held = None;
        }
        let model = ModelSource::Checkpoint {
            dir: policy.dir.clone(),
            resume: false,
            average: false,
            image_tokenizer: None,
            options: LoadOptions::sampling(),
        };
        match self.engine.ask(Request::Load { model }, None).await? {
            Answer::Loaded { .. } => {
                *self.lock() = Some(policy.clone());
                Ok(())
            }
            other => Err(unexpected("loaded", &other)),
        }
    }
}

/// A link to a sampling engine that loads a policy's weights first, unless the engine holds them.
pub(super) struct PolicyLink<'a> {
    pub(super) engine: &'a SamplingEngine,
    pub(super) policy: &'a PublishedPolicy,
}

impl EngineLink for PolicyLink<'_> {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            for _ in 1..LIVES {
                match self.ask_once(request.clone(), frames.clone()).await {
                    Err(failure) if self.may_try_again(&failure) => self.engine.forget(),
                    answer => return answer,
                }
            }
            self.ask_once(request, frames).await
        })
    }
}

impl PolicyLink<'_> {
    /// Returns whether another life of an engine may answer. If the user wants the run to end, nothing waits for one
    /// (law L10).
    pub(super) fn may_try_again(&self, failure: &EngineFailure) -> bool {
        let is_dead = matches!(failure, EngineFailure::Died { .. } | EngineFailure::Start { .. });
        is_dead && !self.engine.engine.is_hurried()
    }

    async fn ask_once(&self, request: Request, frames: Option<FrameSink>) -> Result<Answer, EngineFailure> {
        let _turn = self.engine.turn.lock().await;
        self.engine.load(self.policy).await?;
        self.engine.engine.ask(request, frames).await
    }
}
