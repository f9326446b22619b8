//! A sampling engine with the weights that it holds, and a link that loads the weights of a request first.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_api::{Answer, LoadOptions, ModelSource, Request};

use super::PublishedPolicy;
use crate::engine::actor::FrameSink;
use crate::engine::address::EngineAddress;
use crate::engine::join::folder_mark::check_folder;
use crate::engine::link::EngineLink;
use crate::engine::process::{EngineFailure, unexpected};
use crate::engine::starter::Asking;

/// Tries of a request whose engine dies.
const LIVES: u32 = 3;

/// One sampling engine.
pub(super) struct SamplingEngine {
    engine: EngineAddress,
    /// A folder that it must see.
    shared: Option<PathBuf>,
    /// Weights that it loaded last; `None` for a new one.
    held: Mutex<Option<PublishedPolicy>>,
    /// Held from the loading of weights to the answer of a request, so that no other request loads others meanwhile.
    turn: tokio::sync::Mutex<()>,
}

impl SamplingEngine {
    pub(super) fn new(engine: EngineAddress, shared: Option<PathBuf>) -> Self {
        Self {
            engine,
            shared,
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
        let before = {
            let mut held = self.lock();
            if held.as_ref() == Some(policy) {
                return Ok(());
            }
            held.take()
        };
        if let (None, Some(folder)) = (before, &self.shared) {
            check_folder(&self.engine, folder).await?;
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
                    Err(failure) if self.may_try_again(&failure) => {}
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
        is_death(failure) && !self.engine.engine.is_hurried()
    }

    async fn ask_once(&self, request: Request, frames: Option<FrameSink>) -> Result<Answer, EngineFailure> {
        let _turn = self.engine.turn.lock().await;
        let answer = self.loaded_and_asked(request, frames).await;
        if answer.as_ref().is_err_and(is_death) {
            self.engine.forget();
        }
        answer
    }

    async fn loaded_and_asked(
        &self,
        request: Request,
        frames: Option<FrameSink>,
    ) -> Result<Answer, EngineFailure> {
        self.engine.load(self.policy).await?;
        self.engine.engine.ask(request, frames).await
    }
}

/// Returns whether the engine has died, so that the next request meets a new one.
fn is_death(failure: &EngineFailure) -> bool {
    matches!(failure, EngineFailure::Died { .. } | EngineFailure::Start { .. })
}
