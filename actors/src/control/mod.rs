//! The orders of the user to a run, from the request to the step boundary where they take effect.
//!
//! L3: orders wait here until the trainer reaches a step boundary. L4: an order is a committed row before it is
//! acknowledged, and its row has the step before anything is computed under it. After a restart, the orders of the
//! journal take effect again at their steps.
//!
//! L10: a stop does not wait for the disk. It waits for the boundary from the moment it is asked for, while its row is
//! on the way; nothing is computed under a stop. It takes effect at every boundary, also while steps are done again,
//! after which knobs are turned that were asked for before it. What the client is told says whether the row is on the disk
//! (`Reply::Accepted`) or not yet (`Reply::Taken`). A stop of a run that is being stopped changes nothing: it has no row,
//! and is confirmed when the row of the first one is.
//!
//! Not here: what a run does at a boundary (`run::driver`), and the format of commands on the socket (the `storage`
//! crate).

mod asking;
pub mod client;
pub mod gateway;
pub mod knobs;
pub mod known_stops;
mod order;
pub mod pending_order;
mod present_model;
mod state;

use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_storage::{ActorView, Command, Knob, Overview, Record, RunState, Steer};
use tokio::sync::Notify;

pub use knobs::KnobKey;
pub(crate) use order::RESUMED_RUN;
use order::words;
pub use order::{OrderError, is_resumption};
pub use present_model::PresentModel;
pub use state::Boundary;
use state::State;

use crate::runtime::recorder::{NotRecorded, Recorder};

/// The orders and the present state of one run, shared by the gateway and the trainer.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    changed: Notify,
}

impl Default for Control {
    fn default() -> Self {
        Self::new("", Vec::new(), Vec::new())
    }
}

impl Control {
    /// Makes the control of a run from its knobs with the profile's values and its orders so far, oldest first
    /// (`journal::steers`).
    #[must_use]
    pub fn new(run: &str, knobs: Vec<Knob>, journal: Vec<Steer>) -> Self {
        Self {
            state: Mutex::new(State::new(run, knobs, journal)),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an order wait for the next boundary.
    fn take(&self, steer: Steer, order: Command) {
        self.lock().wait(steer, order);
        self.changed.notify_waiters();
    }

    /// Takes over the orders that wait in the control of the life before and that this one does not know. The journal was
    /// read while the control before still took orders, so it may lack an order whose row was committed after that (L4),
    /// and a stop whose row is still on its way to the disk (L10). It may also lack that a prompt was answered.
    pub fn take_orders(&self, before: &Self) {
        let (waiting, stop_row, beside) = {
            let before = before.lock();
            let beside = before.answered_beside.clone();
            (before.pending.clone(), before.stop_row.clone(), beside)
        };
        self.lock().answered_beside.extend(beside);
        for (steer, order) in waiting {
            let is_new = self
                .lock()
                .known
                .insert(steer.id.clone(), words(&steer))
                .is_none();
            if is_new && order == Command::Stop {
                self.lock().stop_row = stop_row.clone();
            }
            if is_new {
                self.take(steer, order);
            }
        }
    }

    /// Ends the run at the next boundary without an order: the daemon is ending, and the run is to continue later.
    pub fn halt(&self) {
        self.lock().halting = true;
        self.changed.notify_waiters();
    }

    /// Returns whether [`Self::halt`] was called.
    #[must_use]
    pub fn is_halting(&self) -> bool {
        self.lock().halting
    }

    /// Returns whether the run must end at a boundary that is still to come: the user's stop is waiting, or
    /// [`Self::halt`] was called.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        let state = self.lock();
        state.halting || state.stops()
    }

    /// Returns whether the run must end, also by a stop that has taken effect.
    #[must_use]
    pub fn must_end(&self) -> bool {
        let state = self.lock();
        state.halting || state.is_stopped()
    }

    /// Waits until the run must end ([`Self::must_end`]): what hangs after the boundary of a stop is given up too (L10).
    /// Whoever abandons the present step for it has seen to it that nothing of the step has taken effect.
    pub async fn ends(&self) {
        self.until(Self::must_end).await;
    }

    /// Applies a waiting stop at once, outside a boundary, because the run hangs (law L10). Other orders keep waiting
    /// for a boundary (L3), which this life does not reach any more. Returns whether the run was stopped by the user, and
    /// the rows that the caller records: those of these stops, and those of orders that took effect at a boundary where the
    /// life was abandoned before the recorder had them.
    #[must_use]
    pub fn stop_now(&self) -> (bool, Vec<Steer>) {
        self.lock().stop_now()
    }

    /// Waits for [`Self::halt`].
    pub async fn halted(&self) {
        self.until(Self::is_halting).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let waiter = self.changed.notified();
            tokio::pin!(waiter);
            waiter.as_mut().enable();
            if holds(self) {
                return;
            }
            waiter.await;
        }
    }

    /// Returns a knob's present value.
    #[must_use]
    pub fn value(&self, knob: &KnobKey) -> Option<f64> {
        self.lock().knobs.get(&knob.to_string()).map(|knob| knob.value)
    }

    /// Notes that a life of the run begins from a checkpoint of this step. Until the first boundary this is the run's
    /// step.
    pub fn begin_at(&self, step: u64) {
        let mut state = self.lock();
        state.step = step;
        state.overview.step = step;
    }

    /// Notes that the run has loaded an earlier checkpoint and does the steps after it again. At each of them the knobs
    /// have the values that the rows give (L4).
    pub fn go_back(&self) {
        self.lock().go_back();
    }

    /// Applies orders between two steps, with `step` steps done. Orders take effect here and nowhere else (L3). Returns
    /// what the trainer must do, at once or, during a pause, when the pause ends.
    ///
    /// # Errors
    /// [`NotRecorded`] if the row of an order that has taken effect cannot be written.
    pub async fn boundary(&self, recorder: &Recorder, step: u64) -> Result<Boundary, NotRecorded> {
        let mut todo = Boundary::default();
        loop {
            let waiter = self.changed.notified();
            tokio::pin!(waiter);
            waiter.as_mut().enable();
            self.lock().apply(step, &mut todo);
            // L4: the row has the step before anything is computed under the order.
            if self.record_applied(recorder).await? {
                // Orders that came during the write are applied before the daemon's own end is considered.
                continue;
            }
            todo.halt = self.is_halting();
            if todo.stop || todo.halt || !self.held(&todo) {
                return Ok(todo);
            }
            waiter.await;
        }
    }

    /// Records the rows of orders that have taken effect. If this is abandoned, as when the run hangs here,
    /// [`Self::stop_now`] returns the rows that are left. Returns whether there were any.
    async fn record_applied(&self, recorder: &Recorder) -> Result<bool, NotRecorded> {
        let applied = self.lock().applied.clone();
        if applied.is_empty() {
            return Ok(false);
        }
        let rows = applied.into_iter().map(Record::Steer).collect();
        recorder.record_together(rows).await?;
        self.lock().applied.clear();
        Ok(true)
    }

    /// Returns whether a pause holds the run. A checkpoint or a sample that was asked for meanwhile goes to the trainer
    /// first; the trainer then returns to the boundary of the same step.
    fn held(&self, todo: &Boundary) -> bool {
        let mut state = self.lock();
        let paused = state.paused;
        if !state.is_over {
            state.overview.state = if paused {
                RunState::Paused
            } else {
                RunState::Running
            };
        }
        paused && !todo.checkpoint && todo.samples.is_empty()
    }

    /// Returns whether this life has completed a step.
    #[must_use]
    pub fn stepped(&self) -> bool {
        let state = self.lock();
        state.first.is_some_and(|first| state.step > first)
    }

    /// Pauses the run at the next boundary because of a problem that the user must solve before they resume it.
    pub fn hold(&self, why: &str) {
        let mut state = self.lock();
        state.paused = true;
        if !state.is_over {
            state.overview.state = RunState::Paused;
            why.clone_into(&mut state.overview.detail);
        }
    }

    /// Returns whether the run is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Returns the present state of the run.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let state = self.lock();
        let mut overview = state.overview.clone();
        overview.knobs = state.knobs.values().cloned().collect();
        overview
    }

    /// Changes the reported state of the run, unless the run has ended.
    pub fn report(&self, change: impl FnOnce(&mut Overview)) {
        let mut state = self.lock();
        if !state.is_over {
            change(&mut state.overview);
        }
    }

    /// Reports how the run ended. An actor of the run may still wait for the disk then, and go on until it hears that
    /// it is let go; what it reports no longer counts.
    pub fn report_end(&self, status: RunState) {
        let mut state = self.lock();
        state.overview.state = status;
        state.is_over = true;
    }

    /// Returns how the run has ended, if this order came too late for it and still waits.
    #[must_use]
    pub fn ended_before(&self, id: &str) -> Option<RunState> {
        let state = self.lock();
        let waits = state.pending.iter().any(|(steer, _)| steer.id == id);
        (state.is_over && waits).then_some(state.overview.state)
    }

    /// Sets the model that the user may ask now.
    pub fn present(&self, model: PresentModel) {
        self.lock().model = Some(model);
    }

    /// Returns the model that the user may ask now; `None` while the run is starting.
    #[must_use]
    pub fn model(&self) -> Option<PresentModel> {
        self.lock().model.clone()
    }

    /// Has the run leave a prompt to whoever answers it beside the run, in the lives to come too.
    pub fn leave_prompt(&self, id: &str) {
        self.lock().answered_beside.insert(id.to_owned());
    }

    /// Removes a prompt from the waiting orders, because it is answered now, and commits its row.
    ///
    /// # Errors
    /// [`NotRecorded`] if the row cannot be written.
    pub async fn take_sample(&self, recorder: &Recorder, id: &str) -> Result<(), NotRecorded> {
        let taken = {
            let mut state = self.lock();
            let at = state.pending.iter().position(|(steer, _)| steer.id == id);
            let taken = at.and_then(|at| state.pending.remove(at));
            taken.map(|(steer, _)| Steer {
                applied_step: Some(state.step),
                ..steer
            })
        };
        // A repeated request with the same id finds nothing waiting, and is answered again.
        match taken {
            Some(steer) => recorder.record_together(vec![Record::Steer(steer)]).await,
            None => Ok(()),
        }
    }

    /// Returns the run's id and the step of the last boundary.
    #[must_use]
    pub fn place(&self) -> (String, u64) {
        let state = self.lock();
        (state.run.clone(), state.step)
    }
}

/// Publishes the present state to watchers. It is not stored.
pub fn publish(recorder: &Recorder, overview: Overview, actors: Vec<ActorView>) {
    recorder.offer(Record::Overview(overview));
    actors
        .into_iter()
        .for_each(|actor| recorder.offer(Record::Actor(actor)));
}

#[cfg(test)]
mod tests;
