//! Probes: an actor's state, queue and last messages with their outcomes (the flight recorder), readable without asking
//! the actor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_storage::{ActorState, ActorView};

use crate::runtime::recorder::now_us;

/// Messages that the flight recorder keeps per actor.
const RECENT: usize = 64;
/// Deaths that are kept per actor.
const DEATHS: usize = 8;

/// A view of what an actor is doing, readable from any thread at any time.
#[derive(Clone, Debug)]
pub struct Probe {
    view: Arc<Mutex<ActorView>>,
    /// Number of messages that are being handled.
    handling: Arc<AtomicUsize>,
}

impl Probe {
    pub(super) fn new(name: &str, parent: &str) -> Self {
        Self {
            view: Arc::new(Mutex::new(ActorView {
                name: name.to_owned(),
                parent: parent.to_owned(),
                state: ActorState::Starting,
                detail: String::new(),
                queue: (0, 0),
                restarts: 0,
                handled: 0,
                last_message: String::new(),
                last_at_us: 0,
                recent: Vec::new(),
                answered_us: 0,
                deaths: Vec::new(),
            })),
            handling: Arc::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ActorView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is being handled, until the returned guard is dropped.
    #[must_use]
    pub fn handle(&self, message: &str) -> Handling {
        self.handling.fetch_add(1, Ordering::SeqCst);
        let mut view = self.lock();
        view.state = ActorState::Busy;
        message.clone_into(&mut view.last_message);
        view.last_at_us = now_us();
        Handling {
            probe: self.clone(),
            message: message.to_owned(),
            began: now_us(),
            outcome: "dropped".into(),
        }
    }

    /// Sets the state and its detail.
    pub fn say(&self, state: ActorState, detail: &str) {
        let mut view = self.lock();
        view.state = state;
        detail.clone_into(&mut view.detail);
    }

    /// Sets the queue's length and its capacity.
    pub fn queue(&self, waiting: u64, room: u64) {
        self.lock().queue = (waiting, room);
    }

    pub(super) fn waiting(&self, waiting: u64) {
        self.lock().queue.0 = waiting;
    }

    /// Notes how long a sender waited for its answer.
    pub(super) fn answered(&self, after: Duration) {
        self.lock().answered_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    }

    /// Notes that a life of the actor ended, and why.
    pub(super) fn died(&self, reason: &str) {
        let mut view = self.lock();
        if view.deaths.len() == DEATHS {
            view.deaths.remove(0);
        }
        view.deaths.push((now_us(), reason.to_owned()));
    }

    /// Returns a copy of the present view.
    #[must_use]
    pub fn view(&self) -> ActorView {
        self.lock().clone()
    }
}

/// A guard of one message in the flight recorder. Its drop notes the duration and the outcome, also during a panic.
#[derive(Debug)]
pub struct Handling {
    probe: Probe,
    message: String,
    began: i64,
    outcome: String,
}

impl Handling {
    /// Ends the message with an outcome: `ok`, or what went wrong.
    pub fn end(mut self, outcome: impl Into<String>) {
        self.outcome = outcome.into();
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() {
            "panicked".into()
        } else {
            std::mem::take(&mut self.outcome)
        };
        let mut view = self.probe.lock();
        let took = u64::try_from(now_us() - self.began).unwrap_or(0);
        if view.recent.len() == RECENT {
            view.recent.remove(0);
        }
        view.recent
            .push((self.began, std::mem::take(&mut self.message), took, outcome));
        view.handled += 1;
        // Another message may still be in work.
        let last = self.probe.handling.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && view.state == ActorState::Busy {
            view.state = ActorState::Idle;
            view.detail.clear();
        }
    }
}

/// The probes of all actors, in the order in which the actors started, so that a parent precedes its children.
#[derive(Clone, Debug, Default)]
pub struct Roster(pub(super) Arc<Mutex<Vec<Probe>>>);

impl Roster {
    /// Returns a copy of every probe's present view.
    #[must_use]
    pub fn views(&self) -> Vec<ActorView> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(Probe::view)
            .collect()
    }

    /// Adds a probe under this name, in place of an earlier one. Work that is no actor of the supervisor may add one
    /// too, so that the user sees it.
    #[must_use]
    pub fn add(&self, name: &str, parent: &str) -> Probe {
        let probe = Probe::new(name, parent);
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|known| known.view().name != name);
        probes.push(probe.clone());
        probe
    }
}
