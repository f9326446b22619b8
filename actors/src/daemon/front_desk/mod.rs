//! The front desk: it answers from memory, in a task of its own, whatever the rest of the daemon waits for (law L10). A
//! status, the end of the daemon and an order to the run are taken here within seconds, also while a command beside it
//! waits for the disk.
//!
//! Here are what the desk knows and its task; `orders.rs` has the answers. How an order reaches the run is in
//! `control/pending_order.rs`.

mod orders;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use demask_storage::{ActorState, Command, Overview, Reply, RunState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::control::gateway::PendingCommand;
use crate::control::known_stops::{KnownStops, NO_RUN};
use crate::control::pending_order::PresentControl;
use crate::control::{Control, publish};
use crate::engine::join::lobby::Lobby;
use crate::engine::starter::EngineStarter;
use crate::home::Home;
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::{Probe, Roster};
use crate::runtime::{disk, log};

/// Time between two snapshots of the overview and the actors for watchers.
const PUBLISH: Duration = Duration::from_millis(250);
/// Duration of a write from which the status says that the run waits for the disk.
const SILENT: Duration = Duration::from_secs(5);
/// L2: most orders and questions at a time. Their rows wait for the disk. A stop is not counted: at most one waits.
const ORDERS: usize = 64;

/// The signals that end the daemon.
pub(super) struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    /// An error if the system refuses to.
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => libc::SIGTERM,
            _ = self.int.recv() => libc::SIGINT,
        }
    }
}

/// The front desk, shared by its own task and the daemon's loop.
pub(super) struct FrontDesk {
    home: Home,
    recorder: Recorder,
    engines: Arc<dyn EngineStarter>,
    roster: Roster,
    faults: FaultInjection,
    /// Control of the active run; `None` if there is none.
    present: RefCell<Option<PresentControl>>,
    /// Last state of the run that was active before.
    last: RefCell<Option<Overview>>,
    stops: RefCell<KnownStops>,
    /// Room for orders and questions. A permit travels inside the task that it admits.
    room: Arc<Semaphore>,
    ending: Cell<bool>,
    told_to_end: Notify,
    /// Whether a client asked again for the end of the daemon.
    told_again: Cell<bool>,
    gives_up_disk: Notify,
}

impl FrontDesk {
    pub(super) fn new(
        home: &Home,
        recorder: &Recorder,
        engines: &Arc<dyn EngineStarter>,
        roster: &Roster,
        faults: FaultInjection,
    ) -> Rc<Self> {
        Rc::new(Self {
            home: home.clone(),
            recorder: recorder.clone(),
            engines: Arc::clone(engines),
            roster: roster.clone(),
            faults,
            present: RefCell::default(),
            last: RefCell::default(),
            stops: RefCell::default(),
            room: Arc::new(Semaphore::new(ORDERS)),
            ending: Cell::new(false),
            told_to_end: Notify::new(),
            told_again: Cell::new(false),
            gives_up_disk: Notify::new(),
        })
    }

    /// Notes that a run is active from now on. If the daemon was told to end while it began the run, the run is told now.
    pub(super) fn begin(&self, control: &PresentControl) {
        self.present.replace(Some(Rc::clone(control)));
        if self.is_ending() {
            control.borrow().halt();
        }
    }

    /// Notes stops that the daemons before have recorded, with their runs.
    pub(super) fn know_stops(&self, stops: Vec<(String, String)>) {
        self.stops.borrow_mut().recorded_before(stops);
    }

    /// Notes that no run is active any more, and the last state of the one that was.
    pub(super) fn leave(&self, last: Overview) {
        self.present.replace(None);
        self.last.replace(Some(last));
    }

    /// Returns whether the daemon was told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Waits until the daemon is told to end for the first time.
    pub(super) async fn is_told_to_end(&self) {
        self.told_to_end.notified().await;
    }

    /// Waits until the daemon must end without the disk: it was told to end twice, and the disk does not answer (L10).
    /// L4: what was acknowledged is on the disk before its client was told so, and nothing else is lost.
    pub(super) async fn is_without_disk(&self) {
        self.gives_up_disk.notified().await;
    }

    /// Ends the daemon as a client asks for it.
    fn shut_down(&self) -> Reply {
        let message = match self.is_ending() {
            false => {
                self.end();
                "the daemon finishes the step, saves a checkpoint and ends; asked again, it does not wait for a disk that \
                 does not answer"
            }
            true => {
                self.told_again.set(true);
                "the daemon is ending; if the disk does not answer for 5 s, it ends without the rows that the disk has not \
                 confirmed; nothing acknowledged is lost"
            }
        };
        Reply::Accepted {
            message: message.to_owned(),
            step: self.overview().step,
        }
    }

    /// Returns for how long the disk has not answered, if that is long.
    fn silent(&self) -> Option<Duration> {
        self.recorder.silent_for().filter(|&silent| silent >= SILENT)
    }

    /// Returns whether the disk is full or has not answered for long. The recorder may wait for it, and so may a
    /// command or a run that needs files, also of another disk.
    fn waits_for_disk(&self) -> bool {
        self.silent().is_some()
            || self.recorder.is_disk_full()
            || disk::under_way_for().is_some_and(|under_way| under_way >= SILENT)
    }

    fn end(&self) {
        tracing::info!("asked to end");
        self.ending.set(true);
        self.told_to_end.notify_one();
        if let Some(control) = self.control() {
            control.borrow().halt();
        }
    }

    /// Admits an order or a question, or says why there is no room.
    fn admit(&self) -> Result<OwnedSemaphorePermit, Reply> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            Reply::refused(&format!(
                "{ORDERS} orders and questions are under way, expected at most {ORDERS}: `demask ps` shows what they wait \
                 for, and `demask stop` needs no room"
            ))
        })
    }

    fn control(&self) -> Option<PresentControl> {
        self.present.borrow().clone()
    }

    /// Returns the control of the run that an order is for, or says why there is none.
    fn ordered(&self, id: &str, order: &Command) -> Result<PresentControl, Reply> {
        let present = self.control();
        let found = match order {
            Command::Stop => self.stops.borrow_mut().run_of(id, present),
            _ => present.ok_or(NO_RUN),
        };
        found.map_err(Reply::refused)
    }

    /// Serves until the task is aborted: signals, snapshots for watchers, and commands.
    pub(super) async fn serve(
        self: Rc<Self>,
        mut asked: mpsc::Receiver<PendingCommand>,
        mut signals: StopSignals,
        written: Probe,
    ) {
        let mut tick = tokio::time::interval(PUBLISH);
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if self.is_ending() {
                        log::flush();
                        std::process::exit(128 + signal);
                    }
                    self.end();
                }
                _ = tick.tick() => {
                    if self.told_again.get() && self.waits_for_disk() {
                        self.gives_up_disk.notify_one();
                    }
                    show_recorder(&self.recorder, &written);
                    publish(&self.recorder, self.overview(), self.roster.views());
                }
                // Last in this biased select, so that a client that asks much delays nothing else.
                Some(asked) = asked.recv() => self.answer(asked),
            }
        }
    }

    /// Returns the state of the active run, else of the last one.
    pub(super) fn overview(&self) -> Overview {
        let silent = self.silent().map(|silent| {
            let seconds = silent.as_secs();
            format!("the disk has not answered for {seconds} s; nothing is lost, and the daemon goes on when it does")
        });
        let Some(control) = self.control() else {
            let last = self.last.borrow().clone();
            let mut last = last.unwrap_or_else(|| Control::default().overview());
            last.detail = silent.unwrap_or(last.detail);
            return last;
        };
        let mut overview = control.borrow().overview();
        if self.recorder.is_disk_full() {
            overview.state = RunState::WaitingDisk;
        } else if let Some(silent) = silent {
            (overview.state, overview.detail) = (RunState::WaitingDisk, silent);
        } else if self.is_ending() {
            overview.state = RunState::Stopping;
        } else if let Some(awaited) = self.engines.lobby().and_then(Lobby::awaited) {
            overview.detail = awaited;
        }
        for device in &mut overview.devices {
            (device.memory, device.peak) = demask_api::memory::resident(device.pid);
        }
        overview
    }
}

/// Shows the recorder among the actors, although it is a thread with a queue.
fn show_recorder(recorder: &Recorder, probe: &Probe) {
    let (waiting, room) = recorder.queue();
    let state = if recorder.is_disk_full() {
        ActorState::Waiting
    } else if waiting > 0 {
        ActorState::Busy
    } else {
        ActorState::Idle
    };
    let (last, dropped) = (recorder.last_seq(), recorder.dropped());
    probe.say(state, &format!("event {last}, {dropped} thinned"));
    probe.queue(waiting, room);
}
