//! Where an actor is reached, whichever of its lives is the present one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::watch;

use super::probe::Probe;

/// Leads to the present life of an actor.
pub struct Address<A: Actor> {
    pub(super) present: watch::Receiver<Option<Addr<A>>>,
    pub(super) probe: Probe,
    /// Messages that were sent and not answered yet.
    pub(super) waiting: Arc<AtomicU64>,
}

impl<A: Actor> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self {
            present: self.present.clone(),
            probe: self.probe.clone(),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

/// An actor did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The life that was asked died before it answered; another may be asked.
    #[error("{0} died before it answered")]
    Died(String),
    /// Nobody makes another.
    #[error("{0} died too often and is not made again")]
    Gone(String),
}

impl<A: Actor<Context = Context<A>>> Address<A> {
    /// The present life's address; waits while it is being made again. None once the supervisor gave up or ended.
    pub async fn get(&self) -> Option<Addr<A>> {
        let mut watch = self.present.clone();
        let found = watch
            .wait_for(|address| address.as_ref().is_some_and(Addr::connected))
            .await
            .ok()?;
        found.clone()
    }

    /// L1, L2: waits for room in the mailbox and for the answer; when the life that was asked dies first, the next one is
    /// asked the same. For messages that may be done twice.
    ///
    /// # Errors
    /// [`Silence::Gone`].
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, Silence>
    where
        A: Handler<M>,
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        loop {
            match self.ask_once(message.clone()).await {
                Err(Silence::Died(_)) => tokio::task::yield_now().await,
                answered => return answered,
            }
        }
    }

    /// As [`Self::ask`], but a death is the asker's to deal with.
    ///
    /// # Errors
    /// [`Silence`].
    pub async fn ask_once<M>(&self, message: M) -> Result<M::Result, Silence>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let name = || self.probe.view().name;
        let present = self.get().await.ok_or_else(|| Silence::Gone(name()))?;
        let _waiting = Waiting::begin(&self.waiting, &self.probe);
        present.send(message).await.map_err(|_| Silence::Died(name()))
    }
}

/// A message that waits for its answer: it counts in the queue that a person sees.
struct Waiting<'a>(&'a AtomicU64, &'a Probe, Instant);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64, probe: &'a Probe) -> Self {
        probe.waiting(count.fetch_add(1, Relaxed) + 1);
        Self(count, probe, Instant::now())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.1.waiting(self.0.fetch_sub(1, Relaxed) - 1);
        self.1.answered(self.2.elapsed());
    }
}
