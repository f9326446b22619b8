//! The orders of the user to a run, from the request to the step boundary where they take effect.
//!
//! L3: orders wait here until the trainer reaches a step boundary. L4: an order is a committed row before it is
//! acknowledged, and its row has the step before anything is computed under it. After a restart, the orders of the
//! journal take effect again at their steps.
//!
//! Not here: what a run does at a boundary (`run::driver`), and the format of commands on the socket (the `storage`
//! crate).

mod bounded_lines;
pub mod client;
pub mod gateway;
pub mod knobs;
mod order;
mod present_model;
mod query_process;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_storage::{ActorView, Command, Knob, Overview, Record, RunState, Steer, SteerAction};
use tokio::sync::Notify;

pub use knobs::KnobKey;
pub use order::{OrderError, RESUMED_RUN};
use order::{check, of_row, standing};
pub use present_model::PresentModel;

use crate::runtime::recorder::{Recorder, RecorderGone};

/// The effects of a boundary that the trainer carries out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boundary {
    /// Save a checkpoint now.
    pub checkpoint: bool,
    /// Save a checkpoint and end the run, because the user stopped it.
    pub stop: bool,
    /// Save a checkpoint and leave the run, because the daemon is ending. The next daemon continues it.
    pub halt: bool,
    /// Prompts to sample now: the order's id, the prompt, and whether to draw a picture.
    pub samples: Vec<(String, String, bool)>,
}

#[derive(Debug)]
struct State {
    run: String,
    step: u64,
    /// Step of the first boundary of this life.
    first: Option<u64>,
    paused: bool,
    /// Whether a stop took effect. The run then ends as stopped, whatever it still waits for.
    stopping: bool,
    /// Orders from before the first boundary of this life. Nothing was computed since they came, so they take effect at
    /// that boundary.
    early: HashSet<String>,
    /// Whether the present step was abandoned for a waiting order. The order takes effect before the step is done
    /// again.
    given_up: bool,
    halting: bool,
    /// Ids of all orders, including those that have taken effect.
    known: HashSet<String>,
    pending: VecDeque<(Steer, Command)>,
    /// Orders of the journal that have taken effect, in the order in which they did.
    replay: VecDeque<(Steer, Command)>,
    knobs: BTreeMap<String, Knob>,
    overview: Overview,
    model: Option<PresentModel>,
}

impl State {
    /// Returns whether a stop is waiting.
    fn stops(&self) -> bool {
        self.pending.iter().any(|(_, order)| *order == Command::Stop)
    }
}

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
        let known = journal.iter().map(|steer| steer.id.clone()).collect();
        let knobs = knobs.into_iter().map(|knob| (knob.key.clone(), knob)).collect();
        let orders = standing(journal)
            .into_iter()
            .filter_map(|steer| of_row(&steer).map(|order| (steer, order)));
        let (mut replay, pending): (Vec<_>, Vec<_>) =
            orders.partition(|(steer, _)| steer.applied_step.is_some());
        // An order that waited while the run was stopped took effect after the resumption, which came later than the
        // order.
        replay.sort_by_key(|(steer, _)| steer.applied_step);
        let (run, overview) = (run.to_owned(), nothing());
        let state = State {
            run,
            step: 0,
            first: None,
            paused: false,
            stopping: false,
            early: HashSet::new(),
            given_up: false,
            halting: false,
            known,
            pending: pending.into(),
            replay: replay.into(),
            knobs,
            overview,
            model: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts an order. Its row is committed to the store before this returns (L4). The same id is accepted once.
    ///
    /// # Errors
    /// [`OrderError`] if the knob is unknown, the value is out of range, or the recorder has ended.
    pub async fn ask(
        &self,
        recorder: &Recorder,
        id: &str,
        by: &str,
        order: Command,
    ) -> Result<u64, OrderError> {
        let (steer, again) = {
            let mut state = self.lock();
            let action = check(&state.knobs, &order)?;
            (
                asked(&state, id, by, action, &order),
                !state.known.insert(id.to_owned()),
            )
        };
        let step = steer.asked_step;
        if again {
            recorder.flush().await?;
            return Ok(step);
        }
        recorder.record(Record::Steer(steer.clone())).await?;
        recorder.flush().await?;
        {
            let mut state = self.lock();
            if state.first.is_none() {
                state.early.insert(steer.id.clone());
            }
            state.pending.push_back((steer, order));
        }
        self.changed.notify_waiters();
        Ok(step)
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

    /// Returns whether the run must end: the user's stop is waiting, or [`Self::halt`] was called.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        let state = self.lock();
        state.halting || state.stops()
    }

    /// Waits until the run must end.
    pub async fn ends(&self) {
        self.until(Self::is_ending).await;
    }

    /// Applies a waiting stop at once, outside a boundary, because the run hangs (law L10). Other orders keep waiting
    /// for a boundary (L3), which this life does not reach any more. Returns whether the run was stopped by the user.
    ///
    /// # Errors
    /// [`RecorderGone`] when the recorder has ended.
    pub async fn stop_now(&self, recorder: &Recorder) -> Result<bool, RecorderGone> {
        let (_, step) = self.place();
        let stops: Vec<Steer> = {
            let mut state = self.lock();
            let (stops, waiting): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.pending)
                .into_iter()
                .partition(|(_, order)| *order == Command::Stop);
            state.pending = waiting;
            stops.into_iter().map(|(steer, _)| steer).collect()
        };
        let stopped = self.lock().stopping || !stops.is_empty();
        for mut steer in stops {
            steer.applied_step = Some(step);
            recorder.record(Record::Steer(steer)).await?;
        }
        Ok(stopped)
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

    /// Applies orders between two steps, with `step` steps done. Orders take effect here and nowhere else (L3). Returns
    /// what the trainer must do, at once or, during a pause, when the pause ends.
    ///
    /// # Errors
    /// [`RecorderGone`] when the recorder has ended.
    pub async fn boundary(&self, recorder: &Recorder, step: u64) -> Result<Boundary, RecorderGone> {
        let mut todo = Boundary::default();
        loop {
            let waiter = self.changed.notified();
            tokio::pin!(waiter);
            waiter.as_mut().enable();
            let applied = self.apply(step, &mut todo);
            if !applied.is_empty() {
                for steer in applied {
                    recorder.record(Record::Steer(steer)).await?;
                }
                // L4: the row has the step before anything is computed under the order.
                recorder.flush().await?;
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

    /// Returns whether a pause holds the run. A checkpoint or a sample that was asked for meanwhile goes to the trainer
    /// first; the trainer then returns to the boundary of the same step.
    fn held(&self, todo: &Boundary) -> bool {
        let mut state = self.lock();
        let paused = state.paused;
        state.overview.state = if paused {
            RunState::Paused
        } else {
            RunState::Running
        };
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
        state.overview.state = RunState::Paused;
        why.clone_into(&mut state.overview.detail);
    }

    /// Waits until the run must end at the next boundary, because the user stopped it or the daemon is ending. The
    /// caller then abandons the present step, of which nothing has taken effect.
    pub async fn ending(&self) {
        self.ends().await;
        let mut state = self.lock();
        state.given_up = state.stops();
    }

    /// Returns whether the run is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    fn apply(&self, step: u64, todo: &mut Boundary) -> Vec<Steer> {
        let mut state = self.lock();
        state.first.get_or_insert(step);
        state.step = step;
        state.overview.step = step;
        while state
            .replay
            .front()
            .is_some_and(|(steer, _)| steer.applied_step.is_some_and(|at| at <= step))
        {
            if let Some((_, order)) = state.replay.pop_front() {
                // L1: the stop took effect, and the daemon died before the run had ended.
                todo.stop |= order == Command::Stop;
                again(&mut state, order);
            }
        }
        let mut applied = Vec::new();
        // While steps are redone, no new order takes effect, so that the results from before the crash come out the
        // same (L8).
        while state.replay.is_empty()
            && state.pending.front().is_some_and(|(steer, _)| {
                steer.asked_step < step.max(1)
                    || state.paused
                    || state.given_up
                    || state.early.contains(&steer.id)
            })
            && let Some((mut steer, order)) = state.pending.pop_front()
        {
            steer.applied_step = Some(step);
            if let Command::Set { key, .. } = &order {
                steer.old = state.knobs.get(key).map(|knob| knob.value.to_string());
            }
            first(&mut state, todo, &steer.id, order);
            applied.push(steer);
        }
        state.given_up = false;
        state.stopping |= todo.stop;
        applied
    }

    /// Returns the present state of the run.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let state = self.lock();
        let mut overview = state.overview.clone();
        overview.knobs = state.knobs.values().cloned().collect();
        overview
    }

    /// Changes the reported state of the run.
    pub fn report(&self, change: impl FnOnce(&mut Overview)) {
        change(&mut self.lock().overview);
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

    /// Removes a prompt from the waiting orders, because it is answered now, and commits its row.
    ///
    /// # Errors
    /// [`RecorderGone`] when the recorder has ended.
    pub async fn take_sample(&self, recorder: &Recorder, id: &str) -> Result<(), RecorderGone> {
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
        if let Some(steer) = taken {
            recorder.record(Record::Steer(steer)).await?;
            recorder.flush().await?;
        }
        Ok(())
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

fn nothing() -> Overview {
    Overview {
        run: String::new(),
        profile: String::new(),
        state: RunState::Idle,
        detail: String::new(),
        step: 0,
        total_steps: 0,
        stages: Vec::new(),
        stage: 0,
        tokens_per_s: 0.0,
        eta_s: None,
        elapsed_s: 0.0,
        devices: Vec::new(),
        ranks: Vec::new(),
        knobs: Vec::new(),
        last_checkpoint: None,
    }
}

fn asked(state: &State, id: &str, by: &str, action: SteerAction, order: &Command) -> Steer {
    let (key, old, new) = match order {
        Command::Set { key, value } => {
            let old = state.knobs.get(key).map(|knob| knob.value.to_string());
            (Some(key.clone()), old, Some(value.to_string()))
        }
        Command::Sample {
            prompt,
            picture: draw,
        }
        | Command::Ask { prompt, draw, .. } => (
            Some(if *draw { "picture" } else { "text" }.to_owned()),
            None,
            Some(prompt.clone()),
        ),
        _ => (None, None, None),
    };
    let (id, by) = (id.to_owned(), by.to_owned());
    Steer {
        id,
        run: state.run.clone(),
        by,
        action,
        key,
        old,
        new,
        asked_step: state.step,
        applied_step: None,
    }
}

/// Applies an order for the first time.
fn first(state: &mut State, todo: &mut Boundary, id: &str, order: Command) {
    match order {
        Command::Checkpoint => todo.checkpoint = true,
        Command::Stop => todo.stop = true,
        Command::Sample { prompt, picture } => todo.samples.push((id.to_owned(), prompt, picture)),
        other => again(state, other),
    }
}

/// Applies the lasting effect of an order, also when the journal is replayed. Effects that happen once are not
/// repeated.
fn again(state: &mut State, order: Command) {
    match order {
        Command::Pause => state.paused = true,
        Command::Resume => state.paused = false,
        Command::Set { key, value } => {
            if let Some(knob) = state.knobs.get_mut(&key) {
                knob.value = value;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_storage::{journal, store};
    use proptest::prelude::*;

    fn knobs() -> Vec<Knob> {
        let help = String::new();
        vec![Knob {
            key: KnobKey::LearningRate.to_string(),
            value: 0.5,
            low: 0.0,
            high: 1.0,
            help,
        }]
    }

    fn with_recorder<T>(test: impl AsyncFnOnce(Recorder, &std::path::Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (recorder, _thread) = Recorder::start(&path).unwrap();
            test(recorder, &path).await
        })
    }

    fn set(value: f64) -> Command {
        Command::Set {
            key: "learning_rate".into(),
            value,
        }
    }

    #[test]
    fn l4_an_order_is_a_row_when_it_is_acknowledged_and_again_when_it_took_effect() {
        with_recorder(async |recorder, path| {
            let control = Control::new("r", knobs(), Vec::new());
            control.boundary(&recorder, 4).await.unwrap();
            assert_eq!(
                control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap(),
                4
            );
            assert_eq!(
                control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap(),
                4
            );
            let rows = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
            assert_eq!(
                (
                    rows().len(),
                    rows()[0].applied_step,
                    control.value(&KnobKey::LearningRate)
                ),
                (1, None, Some(0.5))
            );
            let todo = control.boundary(&recorder, 5).await.unwrap();
            assert_eq!(
                (todo, control.value(&KnobKey::LearningRate)),
                (Boundary::default(), Some(0.25))
            );
            // L1: a client that missed the reply asks again after the order took effect; nothing is done twice.
            control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap();
            assert_eq!(control.boundary(&recorder, 6).await.unwrap(), Boundary::default());
            let row = rows().remove(0);
            assert_eq!(
                (row.old.as_deref(), row.new.as_deref()),
                (Some("0.5"), Some("0.25"))
            );
            assert_eq!(
                (row.asked_step, row.applied_step, row.by.as_str()),
                (4, Some(5), "me (cli)")
            );
        });
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        with_recorder(async |recorder, _| {
            let control = Control::new("r", knobs(), Vec::new());
            let unknown = Command::Set {
                key: "speed".into(),
                value: 1.0,
            };
            let error = control
                .ask(&recorder, "a", "me", unknown)
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(error, "there is no knob 'speed'; the knobs are learning_rate");
            let error = control
                .ask(&recorder, "b", "me", set(f64::NAN))
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(error, "learning_rate cannot be set to NaN; allowed is 0 to 1");
            assert_eq!(control.boundary(&recorder, 1).await.unwrap(), Boundary::default());
        });
    }

    #[test]
    fn l3_a_pause_holds_at_the_boundary_until_it_is_resumed() {
        with_recorder(async |recorder, _| {
            let control = Control::new("r", knobs(), Vec::new());
            control.ask(&recorder, "p", "me", Command::Pause).await.unwrap();
            let resume = async {
                while control.overview().state != RunState::Paused {
                    tokio::task::yield_now().await;
                }
                control.ask(&recorder, "r", "me", Command::Resume).await.unwrap();
                false
            };
            let held = async { control.boundary(&recorder, 7).await.is_ok() };
            tokio::pin!(held);
            tokio::select! {
                biased;
                went_on = &mut held => assert!(!went_on, "it went on while paused"),
                _ = resume => assert!(held.await),
            }
            assert!(!control.is_paused());
        });
    }

    #[test]
    fn l1_l4_a_stop_ends_the_run_though_the_daemon_is_ending_or_dies_of_it() {
        with_recorder(async |recorder, path| {
            let control = Control::new("r", knobs(), Vec::new());
            control.boundary(&recorder, 3).await.unwrap();
            control.ask(&recorder, "s", "me", Command::Stop).await.unwrap();
            control.halt();
            let todo = control.boundary(&recorder, 4).await.unwrap();
            assert!(todo.stop && todo.halt);
            let journal = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
            let next = Control::new("r", knobs(), journal);
            assert_eq!(next.boundary(&recorder, 3).await.unwrap(), Boundary::default());
            assert!(next.boundary(&recorder, 4).await.unwrap().stop);
        });
    }

    #[derive(Clone, Debug)]
    enum ControlEvent {
        Ask(Command),
        Step,
        Crash,
    }

    fn events() -> impl Strategy<Value = Vec<ControlEvent>> {
        let order = prop_oneof![
            (0.0..1.0f64).prop_map(set),
            Just(Command::Checkpoint),
            Just(Command::Pause)
        ];
        let event = prop_oneof![
            order.prop_map(ControlEvent::Ask),
            Just(ControlEvent::Step),
            Just(ControlEvent::Step),
            Just(ControlEvent::Crash)
        ];
        proptest::collection::vec(event, 1..24)
    }

    struct ControlLife<'a> {
        recorder: &'a Recorder,
        path: &'a std::path::Path,
        control: Control,
        step: u64,
        asked: usize,
        /// The value with which each step was computed the first time.
        seen: BTreeMap<u64, f64>,
    }

    impl ControlLife<'_> {
        fn journal(&self) -> Vec<Steer> {
            journal::steers(&store::open_read_only(self.path).unwrap(), "r").unwrap()
        }

        async fn ask(&mut self, order: Command) {
            self.control
                .ask(self.recorder, &format!("{:04}", self.asked), "me", order)
                .await
                .unwrap();
            self.asked += 1;
        }

        async fn boundary(&mut self, step: u64) {
            self.control.boundary(self.recorder, step).await.unwrap();
            let value = self.control.value(&KnobKey::LearningRate).unwrap();
            let before = *self.seen.entry(step).or_insert(value);
            assert_eq!(before, value, "step {step}");
        }

        async fn happens(&mut self, event: ControlEvent) {
            match event {
                ControlEvent::Ask(order) => self.ask(order).await,
                ControlEvent::Step => {
                    // A pause would hold for ever here, so the run is resumed in the same step.
                    self.ask(Command::Resume).await;
                    self.boundary(self.step).await;
                    self.step += 1;
                }
                // Begin at the start again, and redo the steps up to the crash.
                ControlEvent::Crash => {
                    self.control = Control::new("r", knobs(), self.journal());
                    for redo in 1..self.step {
                        self.boundary(redo).await;
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever is asked, and whenever the daemon dies: each order takes effect once, at the step in its row, and a
        /// life that begins again at the start sees the same values at the same steps.
        #[test]
        fn l1_l4_orders_take_effect_at_the_same_steps_after_any_crash(events in events()) {
            with_recorder(async |recorder, path| {
                let control = Control::new("r", knobs(), Vec::new());
                let mut life = ControlLife { recorder: &recorder, path, control, step: 1, asked: 0, seen: BTreeMap::new() };
                for event in events {
                    life.happens(event).await;
                }
                let rows = life.journal();
                assert_eq!(rows.len(), life.asked);
                let steps: Vec<u64> = rows.iter().filter_map(|row| row.applied_step).collect();
                assert!(steps.is_sorted(), "{steps:?}");
            });
        }
    }
}
