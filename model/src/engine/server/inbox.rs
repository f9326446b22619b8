//! The requests that have arrived and are not begun, and which of them may overtake the others.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use demask_api::{Answer, EngineError, Request, SampleRequest};

use super::connection::{Job, Requester};
use super::guarded::{answer_aside, of_device};
use crate::engine::aside::{AsideDesk, Bystanders};
use crate::error::Result;

/// A request that is handled while a sampling batch runs.
#[allow(clippy::large_enum_variant)] // one at a time
pub(super) enum Meanwhile {
    /// Samples that join the running batch.
    Join(Vec<SampleRequest>),
    /// An aside request, which runs between two forward passes.
    Aside(Request),
}

/// The requests that have arrived and are not begun.
pub(super) struct Inbox {
    jobs: Receiver<Job>,
    /// The requests taken from the channel, at most one per client (law L2).
    waiting: VecDeque<Job>,
}

impl Inbox {
    pub(super) fn new(jobs: Receiver<Job>) -> Self {
        Self {
            jobs,
            waiting: VecDeque::new(),
        }
    }

    /// Waits for the next request. Returns `None` when no client can send one any more.
    pub(super) fn wait(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.jobs.recv().ok())
    }

    /// Returns the next request if it has arrived and is a sampling or an aside request. Any other request
    /// must wait for the running batch, and so must those behind it.
    pub(super) fn meanwhile(&mut self) -> Option<(Meanwhile, Requester)> {
        let next = self.waiting.pop_front().or_else(|| self.jobs.try_recv().ok())?;
        match next {
            Job {
                request: Request::Sample { requests },
                client,
            } => Some((Meanwhile::Join(requests), client)),
            Job {
                request: Request::Aside { request },
                client,
            } => Some((Meanwhile::Aside(*request), client)),
            other => {
                self.waiting.push_front(other);
                None
            }
        }
    }

    /// Takes the first aside request that has arrived; the other requests keep their order.
    fn aside(&mut self) -> Option<(Request, Requester)> {
        let at = self.aside_at()?;
        let Job { request, client } = self.waiting.remove(at)?;
        let Request::Aside { request } = request else {
            return None;
        };
        Some((*request, client))
    }

    /// Takes the aside requests that wait at this moment. Those that arrive while these are answered are not
    /// included: otherwise clients that ask again and again could hold up a training step for ever.
    fn asides(&mut self) -> Vec<(Request, Requester)> {
        self.waiting.extend(self.jobs.try_iter());
        let waiting = self.waiting.len();
        (0..waiting).map_while(|_| self.aside()).collect()
    }

    fn aside_at(&mut self) -> Option<usize> {
        self.waiting.extend(self.jobs.try_iter());
        let is_aside = |job: &Job| matches!(job.request, Request::Aside { .. });
        self.waiting.iter().position(is_aside)
    }
}

/// Aside requests overtake the other requests while a model is trained.
impl Bystanders for Inbox {
    fn are_waiting(&mut self) -> bool {
        self.aside_at().is_some()
    }

    fn answer(&mut self, desk: &AsideDesk<'_>) -> Result<()> {
        for (request, client) in self.asides() {
            answer_aside(Ok(*desk), request, &client).map_err(of_device)?;
        }
        Ok(())
    }

    fn refuse(&mut self, error: &EngineError) {
        for (_, client) in self.asides() {
            client.write(&Answer::Failed(error.clone()));
        }
    }
}
