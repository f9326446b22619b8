//! The address of an actor, which stays valid when the supervisor restarts the actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::watch;

use super::probe::Probe;

/// A handle that sends messages to whichever life of an actor is the present one.
pub struct Address<A: Actor> {
    /// The present life's address; the channel closes when the supervisor gives the actor up.
    pub(super) present: watch::Receiver<Option<Addr<A>>>,
    pub(super) probe: Probe,
    /// Number of messages that were sent and are not answered yet.
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

/// The reason why an actor did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The actor died before it answered. The supervisor restarts it, so a later message may be answered.
    #[error("{0} failed before it answered")]
    Died(String),
    /// The actor died too often, and the supervisor does not restart it any more.
    #[error("{0} failed too often and is not restarted")]
    Gone(String),
}

impl<A: Actor<Context = Context<A>>> Address<A> {
    /// Returns the present life's address. Waits while the actor is restarted. `None` once the supervisor gave the
    /// actor up or ended.
    pub async fn get(&self) -> Option<Addr<A>> {
        let mut watch = self.present.clone();
        let found = watch
            .wait_for(|address| address.as_ref().is_some_and(Addr::connected))
            .await
            .ok()?;
        found.clone()
    }

    /// Returns whether the supervisor gave the actor up or ended.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.present.has_changed().is_err()
    }

    /// Sends `message` and waits for room in the mailbox and for the answer (L1, L2).
    ///
    /// If the actor dies before it answers, the message is sent again to its next life. The message must therefore be
    /// safe to handle twice.
    ///
    /// # Errors
    /// [`Silence::Gone`] when the actor is not restarted any more.
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

    /// Sends `message` once, as [`Self::ask`] does, but returns an error if the actor dies before it answers.
    ///
    /// # Errors
    /// [`Silence::Died`] when the actor died first; [`Silence::Gone`] when it is not restarted any more.
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

/// A guard that counts one unanswered message in the queue length that the dashboard shows.
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
