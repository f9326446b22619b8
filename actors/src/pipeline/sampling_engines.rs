//! Engines that only sample: which weights each of them holds, and how a step's groups are cut over them.
//!
//! A sample does not depend on the batch that it is drawn in, so it does not matter which engine draws it (law L8). One that dies
//! is made again by the supervisor, takes the weights once more and draws what it had not drawn: the run does not notice (law L1).

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

/// How often in a row a request is asked of an engine that dies of it.
const LIVES: u32 = 3;

/// The weights of a policy, written where sampling engines read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPolicy {
    /// The folder.
    pub dir: PathBuf,
    /// The weights version: optimiser steps.
    pub weights: u64,
}

/// The sampling engines of a run.
#[derive(Clone)]
pub struct SamplingEngines {
    engines: Vec<Arc<SamplingEngine>>,
}

/// One of them.
struct SamplingEngine {
    engine: EngineAddress,
    /// The weights that it was last told to take.
    holds: Mutex<Option<PublishedPolicy>>,
}

impl SamplingEngines {
    /// These engines.
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

    /// What they hold may not be what it is called any more: each takes its weights anew.
    pub fn forget(&self) {
        self.engines.iter().for_each(|engine| engine.hold(None));
    }

    /// Completes groups with a policy, in their order.
    ///
    /// # Errors
    /// As [`Inference::complete`]; an engine that died too often.
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

    /// Log-probabilities of the views that a policy step will ask about, by the policy that drew the samples.
    ///
    /// # Errors
    /// The engine's; one that died too often.
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

/// A sampling engine as it is asked with a policy's weights, which it takes first unless it has them.
struct PolicyLink<'a> {
    engine: &'a SamplingEngine,
    policy: &'a PublishedPolicy,
}

impl EngineLink for PolicyLink<'_> {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            for _ in 1..LIVES {
                match self.ask_once(request.clone(), frames.clone()).await {
                    // Who wants the run to end does not wait for another life (L10).
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
