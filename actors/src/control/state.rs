//! The state of a run's control: the orders that wait, those that hold, and what an order changes at a boundary.
//!
//! These are plain changes of values. [`Control`](super::Control) locks the state, waits, and writes the rows of the
//! orders.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use demask_storage::{Command, Knob, Overview, RunState, Steer, SteerAction};
use tokio::sync::watch;

use super::order::{OrderError, OrderWords, check, of_row, standing, words};
use super::present_model::PresentModel;

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

/// What is known of the row of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopRow {
    /// The disk has not confirmed it.
    OnItsWay,
    /// It is on the disk.
    Recorded,
    /// It could not be written.
    Failed,
}

/// What an order is to a run when it is asked for.
pub(super) enum AskedOrder {
    /// A new one, with its row.
    New(Steer),
    /// A repetition of one that was asked for under the same id.
    Repeated,
    /// A stop of a run that another stop, with this row, is ending already.
    Shared(watch::Receiver<StopRow>),
}

/// What the orders of a run have made of it, and the orders that still wait.
#[derive(Debug)]
pub(super) struct State {
    pub(super) run: String,
    pub(super) step: u64,
    /// Step of the first boundary of this life.
    pub(super) first: Option<u64>,
    pub(super) paused: bool,
    /// Whether a stop took effect. The run then ends as stopped, whatever it still waits for.
    pub(super) stopping: bool,
    /// Orders from before the first boundary of this life. Nothing was computed since they came, so they take effect at
    /// that boundary.
    pub(super) early: HashSet<String>,
    pub(super) halting: bool,
    /// Whether the run has ended, so that its reported state stays as it is.
    pub(super) is_over: bool,
    /// All orders by their ids, including those that have taken effect.
    pub(super) known: HashMap<String, OrderWords>,
    /// Ids of prompts that are answered beside the run. They take effect where whoever answers them says, and not at a
    /// boundary.
    pub(super) answered_beside: HashSet<String>,
    pub(super) pending: VecDeque<(Steer, Command)>,
    /// Rows of orders that have taken effect, until the recorder has them.
    pub(super) applied: Vec<Steer>,
    /// Row of the stop that waits or has taken effect. What was read from the journal is on the disk.
    pub(super) stop_row: watch::Receiver<StopRow>,
    /// Orders that take effect again when their steps are redone, in the order in which they did before.
    pub(super) replay: VecDeque<(Steer, Command)>,
    /// Turns of knobs that have taken effect in this life, in their order.
    pub(super) turned: Vec<(Steer, Command)>,
    /// The knobs as the profile sets them.
    pub(super) given: BTreeMap<String, Knob>,
    pub(super) knobs: BTreeMap<String, Knob>,
    pub(super) overview: Overview,
    pub(super) model: Option<PresentModel>,
}

impl State {
    /// Makes the state of a run from its knobs with the profile's values and its orders so far, oldest first.
    pub(super) fn new(run: &str, knobs: Vec<Knob>, journal: Vec<Steer>) -> Self {
        let known = journal.iter().map(|steer| (steer.id.clone(), words(steer)));
        let known = known.collect();
        let knobs: BTreeMap<_, _> = knobs.into_iter().map(|knob| (knob.key.clone(), knob)).collect();
        let orders = standing(journal)
            .into_iter()
            .filter_map(|steer| of_row(&steer).map(|order| (steer, order)));
        let (mut replay, pending): (Vec<_>, Vec<_>) =
            orders.partition(|(steer, _)| steer.applied_step.is_some());
        // An order that waited while the run was stopped took effect after the resumption, which came later than the
        // order.
        replay.sort_by_key(|(steer, _)| steer.applied_step);
        // L1: the stop took effect, and the daemon died before the run had ended.
        let stopping = replay.iter().any(|(_, order)| *order == Command::Stop);
        let (run, overview) = (run.to_owned(), nothing());
        Self {
            run,
            step: 0,
            first: None,
            paused: false,
            stopping,
            early: HashSet::new(),
            halting: false,
            is_over: false,
            known,
            answered_beside: HashSet::new(),
            pending: pending.into(),
            applied: Vec::new(),
            stop_row: watch::channel(StopRow::Recorded).1,
            replay: replay.into(),
            turned: Vec::new(),
            given: knobs.clone(),
            knobs,
            overview,
            model: None,
        }
    }

    /// Returns what an order is to this run, and notes its id.
    ///
    /// L2: a run that is being stopped takes no further stop, so that repetitions on a disk that does not answer leave
    /// nothing behind. Whoever asks for one learns what the disk says of the first.
    ///
    /// # Errors
    /// [`OrderError`] if the knob is unknown, the value is out of range, the id is that of another order, or a stop is
    /// repeated that holds no more.
    pub(super) fn ask(&mut self, id: &str, by: &str, order: &Command) -> Result<AskedOrder, OrderError> {
        let action = check(&self.knobs, order)?;
        if *order == Command::Stop && self.shares_stop() {
            return Ok(AskedOrder::Shared(self.stop_row.clone()));
        }
        let steer = self.asked(id, by, action, order);
        match self.known.get(id) {
            Some(known) if *known == words(&steer) => match *order == Command::Stop && !self.is_stopped() {
                true => Err(OrderError::StopIsOver),
                false => Ok(AskedOrder::Repeated),
            },
            Some((known, ..)) => Err(OrderError::KnownId {
                id: id.to_owned(),
                known: *known,
            }),
            None => {
                self.known.insert(id.to_owned(), words(&steer));
                Ok(AskedOrder::New(steer))
            }
        }
    }

    /// Returns whether a stop waits or has taken effect whose row is on the disk or on its way to it.
    pub(super) fn shares_stop(&self) -> bool {
        let is_failed = *self.stop_row.borrow() == StopRow::Failed;
        self.is_stopped() && !is_failed
    }

    /// Returns whether a stop waits or has taken effect.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopping || self.stops()
    }

    /// Has an order wait for the next boundary, unless it does already.
    pub(super) fn wait(&mut self, steer: Steer, order: Command) {
        if self.pending.iter().any(|(waiting, _)| waiting.id == steer.id) {
            return;
        }
        if self.first.is_none() {
            self.early.insert(steer.id.clone());
        }
        self.pending.push_back((steer, order));
    }

    /// Returns whether a stop is waiting.
    pub(super) fn stops(&self) -> bool {
        self.pending.iter().any(|(_, order)| *order == Command::Stop)
    }

    /// Returns the row of an order that is asked for now.
    fn asked(&self, id: &str, by: &str, action: SteerAction, order: &Command) -> Steer {
        let (key, old, new) = match order {
            Command::Set { key, value } => {
                let old = self.knobs.get(key).map(|knob| knob.value.to_string());
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
            run: self.run.clone(),
            by,
            action,
            key,
            old,
            new,
            asked_step: self.step,
            applied_step: None,
        }
    }

    /// Applies the orders that are due at the boundary after `step` steps, and adds their rows to those that the recorder
    /// must get.
    pub(super) fn apply(&mut self, step: u64, todo: &mut Boundary) {
        self.first.get_or_insert(step);
        self.step = step;
        self.overview.step = step;
        while self
            .replay
            .front()
            .is_some_and(|(steer, _)| steer.applied_step.is_some_and(|at| at <= step))
        {
            if let Some((steer, order)) = self.replay.pop_front() {
                todo.stop |= order == Command::Stop;
                self.note_turn(&steer, &order);
                self.again(order);
            }
        }
        while let Some(at) = self.next_due(step, todo.stop)
            && let Some((mut steer, order)) = self.pending.remove(at)
        {
            steer.applied_step = Some(step);
            if let Command::Set { key, .. } = &order {
                steer.old = self.knobs.get(key).map(|knob| knob.value.to_string());
            }
            self.note_turn(&steer, &order);
            self.first(todo, &steer.id, order);
            self.applied.push(steer);
        }
        self.stopping |= todo.stop;
    }

    /// Returns the place of the next order that takes effect at the boundary after `step` steps. Orders take turns. While
    /// steps are redone no knob is turned anew, so that the results from before come out the same (L8); the other orders
    /// change no result, and a pause could not be ended if they waited.
    ///
    /// L10: a stop is due at every boundary, and so is everything else that waits with it (`is_stopped`: also once it has
    /// taken effect there).
    fn next_due(&self, step: u64, is_stopped: bool) -> Option<usize> {
        let is_redone = !self.replay.is_empty();
        let is_held = |order: &Command| is_redone && matches!(order, Command::Set { .. });
        let waits =
            |(steer, order): &(Steer, Command)| !self.answered_beside.contains(&steer.id) && !is_held(order);
        let at = self.pending.iter().position(waits)?;
        let (steer, _) = self.pending.get(at)?;
        let is_due = is_stopped
            || self.stops()
            || steer.asked_step < step.max(1)
            || self.paused
            || self.early.contains(&steer.id);
        is_due.then_some(at)
    }

    fn note_turn(&mut self, steer: &Steer, order: &Command) {
        if matches!(order, Command::Set { .. }) {
            self.turned.push((steer.clone(), order.clone()));
        }
    }

    /// Has the run go back to an earlier step within its life. The knobs are as the profile sets them, and from the next
    /// boundary on they are turned again at the steps of their rows, as a new life does it (L1, L4, L8).
    pub(super) fn go_back(&mut self) {
        self.knobs.clone_from(&self.given);
        let mut again = VecDeque::from(std::mem::take(&mut self.turned));
        again.append(&mut self.replay);
        self.replay = again;
    }

    /// Applies the waiting stops at once. Returns whether the user has stopped the run, and the rows that the recorder
    /// has not got.
    pub(super) fn stop_now(&mut self) -> (bool, Vec<Steer>) {
        let (stops, waiting): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(_, order)| *order == Command::Stop);
        self.pending = waiting;
        self.stopping |= !stops.is_empty();
        let step = self.step;
        let mut rows = std::mem::take(&mut self.applied);
        rows.extend(stops.into_iter().map(|(steer, _)| Steer {
            applied_step: Some(step),
            ..steer
        }));
        (self.stopping, rows)
    }

    /// Applies an order for the first time.
    fn first(&mut self, todo: &mut Boundary, id: &str, order: Command) {
        match order {
            Command::Checkpoint => todo.checkpoint = true,
            Command::Stop => todo.stop = true,
            Command::Sample { prompt, picture } => todo.samples.push((id.to_owned(), prompt, picture)),
            Command::Resume => {
                // While steps are done again, the pause that it ends may be at one that is still to come (`standing`).
                self.replay.retain(|(_, order)| *order != Command::Pause);
                self.again(Command::Resume);
            }
            other => self.again(other),
        }
    }

    /// Applies the lasting effect of an order, also when the journal is replayed. Effects that happen once are not
    /// repeated.
    fn again(&mut self, order: Command) {
        match order {
            Command::Pause => self.paused = true,
            Command::Resume => self.paused = false,
            Command::Set { key, value } => {
                if let Some(knob) = self.knobs.get_mut(&key) {
                    knob.value = value;
                }
            }
            _ => {}
        }
    }
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
