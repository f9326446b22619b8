//! All sampling engines of a run as one engine: samples and log-likelihoods are divided among them.
//!
//! Part k of n has the requests whose index leaves the remainder k, and answers come back in the order of the requests.
//! A sample and a log-likelihood depend on their own request alone, so they are those of one engine, however many there
//! are (law L8). The part of an engine that dies too often goes to the next one (law L1). What depends on what was
//! asked before, or on its neighbours, goes to the training engine: reward networks, and the codes of pictures.

use std::sync::Arc;

use demask_api::{Answer, LikelihoodQuery, Request, SampleRequest};
use futures_util::future::try_join_all;

use super::PublishedPolicy;
use super::policy_link::{PolicyLink, SamplingEngine};
use crate::engine::actor::FrameSink;
use crate::engine::address::EngineAddress;
use crate::engine::link::EngineLink;
use crate::engine::process::{EngineFailure, unexpected};
use crate::engine::starter::Asking;

/// A link to all sampling engines, once they have a policy's weights.
pub(super) struct PoolLink<'a> {
    pub(super) engines: &'a [Arc<SamplingEngine>],
    pub(super) policy: &'a PublishedPolicy,
    /// The engine that answers everything that is not divided. It has the same weights.
    pub(super) training: &'a EngineAddress,
}

impl EngineLink for PoolLink<'_> {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            match request {
                Request::Sample { requests } => self.sample(requests, frames).await,
                Request::LogLikelihoods { queries } => self.log_likelihoods(queries).await,
                other => self.training.ask(other, frames).await,
            }
        })
    }
}

impl PoolLink<'_> {
    async fn sample(
        &self,
        requests: Vec<SampleRequest>,
        frames: Option<FrameSink>,
    ) -> Result<Answer, EngineFailure> {
        let parts = self.parts(requests).into_iter().enumerate();
        let work = parts.map(|(part, requests)| self.ask_any(part, Request::Sample { requests }, &frames));
        let (mut all, mut longest, mut version) = (Vec::new(), 0.0f64, self.policy.weights);
        for answer in try_join_all(work).await? {
            match answer {
                Answer::Samples {
                    samples,
                    seconds,
                    step,
                } => {
                    all.push(samples);
                    (longest, version) = (longest.max(seconds), step);
                }
                other => return Err(unexpected("samples", &other)),
            }
        }
        Ok(Answer::Samples {
            samples: joined(all),
            seconds: longest,
            step: version,
        })
    }

    async fn log_likelihoods(&self, queries: Vec<LikelihoodQuery>) -> Result<Answer, EngineFailure> {
        let parts = self.parts(queries).into_iter().enumerate();
        let work =
            parts.map(|(part, queries)| self.ask_any(part, Request::LogLikelihoods { queries }, &None));
        let (mut all, mut longest) = (Vec::new(), 0.0f64);
        for answer in try_join_all(work).await? {
            match answer {
                Answer::LogLikelihoods { values, seconds } => {
                    all.push(values);
                    longest = longest.max(seconds);
                }
                other => return Err(unexpected("log_likelihoods", &other)),
            }
        }
        Ok(Answer::LogLikelihoods {
            values: joined(all),
            seconds: longest,
        })
    }

    /// Asks the engine of a part, and the engines after it if it dies too often.
    async fn ask_any(
        &self,
        part: usize,
        request: Request,
        frames: &Option<FrameSink>,
    ) -> Result<Answer, EngineFailure> {
        let count = self.engines.len();
        for engine in (part..part + count - 1).map(|at| &self.engines[at % count]) {
            let link = PolicyLink {
                engine,
                policy: self.policy,
            };
            match link.ask(request.clone(), frames.clone()).await {
                Err(failure) if link.may_try_again(&failure) => {}
                answer => return answer,
            }
        }
        let engine = &self.engines[(part + count - 1) % count];
        let policy = self.policy;
        PolicyLink { engine, policy }.ask(request, frames.clone()).await
    }

    /// Divides items among the engines by their index; fewer parts if there are fewer items.
    fn parts<T>(&self, items: Vec<T>) -> Vec<Vec<T>> {
        let count = self.engines.len().min(items.len()).max(1);
        let mut parts: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
        for (at, item) in items.into_iter().enumerate() {
            parts[at % count].push(item);
        }
        parts
    }
}

/// Puts divided items back into their order.
fn joined<T>(parts: Vec<Vec<T>>) -> Vec<T> {
    let count = parts.iter().map(Vec::len).sum();
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        all.extend(parts.iter_mut().filter_map(Iterator::next));
    }
    all
}
