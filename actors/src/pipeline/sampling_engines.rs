//! Engines that only sample: the weights that each of them holds, and the division of a step's groups among them.
//!
//! A sample does not depend on its batch, so it does not matter which engine draws it (law L8). An engine that dies is
//! restarted by the supervisor, loads the weights again and draws what is missing; the run does not notice (law L1).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use demask_api::{Answer, LoadOptions, ModelSource, Request, ViewScores};

use crate::engine::actor::{EngineAddress, FrameSink};
use crate::engine::link::EngineLink;
use crate::engine::process::{EngineFailure, unexpected};
use crate::engine::starter::Asking;
use crate::inference::complete::{CompletionRequest, CompletionResult, Inference};
use crate::inference::settings::SamplerSettings;
use crate::pipeline::run_error::RunError;

/// Tries of a request whose engine dies.
const LIVES: u32 = 3;

/// Weights of a policy, saved where sampling engines read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPolicy {
    /// Folder of the weights.
    pub dir: PathBuf,
    /// Weights version: number of optimiser steps.
    pub weights: u64,
}

/// The sampling engines of a run.
#[derive(Clone)]
pub struct SamplingEngines {
    engines: Vec<Arc<SamplingEngine>>,
}

/// One sampling engine.
struct SamplingEngine {
    engine: EngineAddress,
    /// Weights that it loaded last.
    holds: Mutex<Option<PublishedPolicy>>,
}

impl SamplingEngines {
    /// Makes a set of these engines.
    #[must_use]
    pub fn new(engines: &[EngineAddress]) -> Self {
        let one = |engine: &EngineAddress| SamplingEngine {
            engine: engine.clone(),
            holds: Mutex::default(),
        };
        Self {
            engines: engines.iter().map(|engine| Arc::new(one(engine))).collect(),
        }
    }

    /// Forgets which weights the engines hold, because a folder may have new content. Each engine loads its weights
    /// again.
    pub fn forget(&self) {
        self.engines.iter().for_each(|engine| engine.hold(None));
    }

    /// Completes groups with a policy, in order.
    ///
    /// # Errors
    /// As [`Inference::complete`]; also an error if an engine died too often.
    pub async fn complete(
        &self,
        policy: &PublishedPolicy,
        inference: &Inference,
        groups: &[Vec<CompletionRequest>],
        samplers: &SamplerSettings,
    ) -> Result<Vec<CompletionResult>, RunError> {
        let each = groups.len().div_ceil(self.engines.len().max(1)).max(1);
        let parts = groups.chunks(each).zip(&self.engines).map(|(part, engine)| {
            let link = PolicyLink { engine, policy };
            let wanted: Vec<CompletionRequest> = part.iter().flatten().cloned().collect();
            async move { inference.complete(&link, &wanted, samplers, None).await }
        });
        let mut made = Vec::new();
        for part in futures_util::future::join_all(parts).await {
            made.extend(part?);
        }
        Ok(made)
    }

    /// Returns the log-probabilities of the views of a policy step under the policy that drew the samples.
    ///
    /// # Errors
    /// Any failure of the engine; an error if it died too often.
    pub async fn score_views(
        &self,
        policy: &PublishedPolicy,
        views: ViewScores,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let Some(engine) = self.engines.first() else {
            return Ok(Vec::new());
        };
        match (PolicyLink { engine, policy })
            .ask(Request::ScoreViews(views), None)
            .await?
        {
            Answer::ViewsScored { values, .. } => Ok(values),
            other => Err(unexpected("views scored", &other).into()),
        }
    }
}

/// A link to a sampling engine that loads a policy's weights first, unless the engine holds them.
struct PolicyLink<'a> {
    engine: &'a SamplingEngine,
    policy: &'a PublishedPolicy,
}

impl EngineLink for PolicyLink<'_> {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            for _ in 1..LIVES {
                match self.ask_once(request.clone(), frames.clone()).await {
                    // If a person wants the run to end, nothing waits for another life of the engine (L10).
                    Err(EngineFailure::Died { .. } | EngineFailure::Start { .. })
                        if !self.engine.engine.is_hurried() =>
                    {
                        self.engine.hold(None);
                    }
                    answer => return answer,
                }
            }
            self.ask_once(request, frames).await
        })
    }
}

impl PolicyLink<'_> {
    async fn ask_once(&self, request: Request, frames: Option<FrameSink>) -> Result<Answer, EngineFailure> {
        if self.engine.held().as_ref() != Some(self.policy) {
            self.engine.hold(None);
            let model = ModelSource::Checkpoint {
                dir: self.policy.dir.clone(),
                resume: false,
                average: false,
                image_tokenizer: None,
                options: LoadOptions::sampling(),
            };
            match self.engine.engine.ask(Request::Load { model }, None).await? {
                Answer::Loaded { .. } => self.engine.hold(Some(self.policy.clone())),
                other => return Err(unexpected("loaded", &other)),
            }
        }
        self.engine.engine.ask(request, frames).await
    }
}

impl SamplingEngine {
    fn held(&self) -> Option<PublishedPolicy> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, policy: Option<PublishedPolicy>) {
        *self.holds.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }
}
