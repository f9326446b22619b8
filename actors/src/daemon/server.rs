//! The background process of a home: one recorder, one control socket, and at most one run at a time. How a run starts
//! is in `beginnings.rs` and `turns.rs`.
//!
//! L1: a run that did not end continues when the daemon starts. A life of it that ends in an engine's death or a panic
//! is followed by another from the last checkpoint. SIGTERM finishes the step, saves a checkpoint and flushes the
//! store; a second signal ends the process at once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use demask_storage::{ActorState, Alert, Command, Level, Overview, Record, Reply, RunState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::lives::Lives;
use super::question::AnswerDesk;
use super::run_record::run_end;
use super::{sockets, store_health};
use crate::control::gateway::{self, PendingCommand};
use crate::control::{Control, publish};
use crate::engine::join::door::OpenDoor;
use crate::engine::join::listen::JoinDoor;
use crate::engine::join::lobby::Lobby;
use crate::engine::starter::{EngineStarter, ProcessStarter};
use crate::home::Home;
use crate::run::context::RunDriver;
use crate::run::driver::StageDriver;
use crate::runtime::loop_watch::LoopWatch;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::{Probe, RestartBudget, SupervisorHandle};

/// Time between two snapshots of the overview and the actors for watchers.
const PUBLISH: Duration = Duration::from_millis(250);
/// Time that clients have to read the last reply.
const GOODBYE: Duration = Duration::from_millis(50);
/// Longest wait for rows to reach the disk; after it the waiting client gets an error.
pub(super) const RECORDED: Duration = Duration::from_secs(10);
/// Commands that fit into the queue.
const QUEUE: usize = 32;

/// Serves a home until it is told to end, and lets engines join at a door if one is given. Blocks.
///
/// # Errors
/// An error if another daemon holds the home's lock, or if the store, the socket or the door cannot be opened.
pub fn serve(home: &Home, door: Option<&JoinDoor>) -> anyhow::Result<()> {
    serve_all(home, Rc::new(StageDriver::default()), door)
}

/// Serves a home as [`serve`] does, with another driver of the runs and no door.
///
/// # Errors
/// As [`serve`].
pub fn serve_with(home: &Home, driver: Rc<dyn RunDriver>) -> anyhow::Result<()> {
    serve_all(home, driver, None)
}

fn serve_all(home: &Home, driver: Rc<dyn RunDriver>, door: Option<&JoinDoor>) -> anyhow::Result<()> {
    let _lock = home.lock()?;
    // L1: the check comes before anything is written to the store.
    let found = store_health::at_start(home)?;
    let (recorder, thread) = Recorder::start(&home.database())?;
    let (root, own) = (home.root().display(), std::process::id());
    tracing::info!(
        "daemon {} of {root} is up, process {own}",
        env!("CARGO_PKG_VERSION")
    );
    tell(&recorder, found);
    match sockets::sweep(home) {
        0 => {}
        count => tracing::info!("removed {count} sockets of engines that were killed"),
    }
    let serving = serve_at(home.clone(), recorder.clone(), driver, door);
    let served = actix::System::new().block_on(serving);
    recorder.close();
    thread.join().ok();
    if let Ok(socket) = home.socket() {
        std::fs::remove_file(socket).ok();
    }
    tracing::info!("daemon ended");
    served
}

/// Serves a home with engines of this machine, and with those that join at a door if one is given.
async fn serve_at(
    home: Home,
    recorder: Recorder,
    driver: Rc<dyn RunDriver>,
    door: Option<&JoinDoor>,
) -> anyhow::Result<()> {
    let lobby = door.map(|door| Arc::new(Lobby::new(&door.file)));
    let open = match (door, &lobby) {
        (Some(door), Some(lobby)) => Some(OpenDoor::open(door, Arc::clone(lobby)).await?),
        _ => None,
    };
    let served = serve_here(home, recorder, driver, Arc::new(ProcessStarter { lobby })).await;
    if let Some(open) = open {
        open.close().await;
    }
    served
}

/// Serves a home whose lock the caller holds, on the present arbiter, with another starter of engines. Simulations use
/// it.
///
/// # Errors
/// An error if the store or the socket cannot be opened, or if the recorder has ended.
pub async fn serve_here(
    home: Home,
    recorder: Recorder,
    driver: Rc<dyn RunDriver>,
    engines: Arc<dyn EngineStarter>,
) -> anyhow::Result<()> {
    Daemon::serve(home, recorder, driver, engines).await
}

/// Reports what was found at the start: in the log each time, and as an alert for watchers.
fn tell(recorder: &Recorder, found: Vec<String>) {
    for message in found {
        tracing::error!("{message}");
        let (run, kind) = (String::new(), "store".to_owned());
        recorder.offer(Record::Alert(Alert {
            run,
            step: 0,
            level: Level::Error,
            kind,
            message,
        }));
    }
}

/// The run that is under way. Each life has a new control.
pub(super) struct Active {
    pub(super) run: String,
    pub(super) control: Rc<RefCell<Arc<Control>>>,
    /// Count of the daemons that died of it; `None` once a step is done.
    pub(super) lives: Option<Lives>,
    pub(super) task: JoinHandle<anyhow::Result<()>>,
}

pub(super) struct Daemon {
    pub(super) home: Home,
    pub(super) recorder: Recorder,
    pub(super) driver: Rc<dyn RunDriver>,
    pub(super) engines: Arc<dyn EngineStarter>,
    pub(super) supervisor: SupervisorHandle,
    pub(super) active: Option<Active>,
    /// Queued runs that this daemon has begun.
    pub(super) begun: HashSet<String>,
    last: Option<Overview>,
    pub(super) shutting_down: bool,
}

struct StopSignals {
    term: Signal,
    int: Signal,
}

impl StopSignals {
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => libc::SIGTERM,
            _ = self.int.recv() => libc::SIGINT,
        }
    }
}

impl Daemon {
    async fn serve(
        home: Home,
        recorder: Recorder,
        driver: Rc<dyn RunDriver>,
        engines: Arc<dyn EngineStarter>,
    ) -> anyhow::Result<()> {
        let mut signals = StopSignals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        };
        let (sender, mut asked) = mpsc::channel(QUEUE);
        let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
        let _watch = LoopWatch::begin(recorder.clone(), supervisor.roster.clone());
        let written = supervisor.roster.add("recorder", "supervisor");
        let served = supervisor.roster.add("gateway", "supervisor");
        let mut daemon = Self {
            home,
            recorder,
            driver,
            engines,
            supervisor,
            active: None,
            begun: HashSet::new(),
            last: None,
            shutting_down: false,
        };
        daemon.go_on().await?;
        let gateway = gateway::open(&daemon.home, daemon.recorder.clone(), sender, served)?;
        let mut tick = tokio::time::interval(PUBLISH);
        while !(daemon.shutting_down && daemon.active.is_none()) {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    if daemon.shutting_down {
                        std::process::exit(128 + signal);
                    }
                    daemon.end();
                }
                ended = ended(&mut daemon.active) => daemon.ended(ended).await?,
                _ = tick.tick() => {
                    show_recorder(&daemon.recorder, &written);
                    daemon.forget_lives();
                    publish(&daemon.recorder, daemon.overview(), daemon.supervisor.roster.views());
                }
                // Last in this biased select, so that a client that asks much delays nothing else.
                Some(asked) = asked.recv() => daemon.reply(asked).await,
            }
        }
        // The last reply is on its way to its client.
        tokio::time::sleep(GOODBYE).await;
        gateway.abort();
        daemon.supervisor.shut_down().await;
        tokio::select! {
            flushed = daemon.recorder.flush() => Ok(flushed?),
            // On a full disk the flush would wait for ever; a signal ends the process.
            signal = signals.next() => std::process::exit(128 + signal),
        }
    }

    fn end(&mut self) {
        tracing::info!("asked to end");
        self.shutting_down = true;
        if let Some(active) = &self.active {
            active.control.borrow().halt();
        }
    }

    async fn ended(&mut self, ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
        self.last = Some(self.overview());
        let ended_run = self.active.take();
        if let Some(lives) = ended_run.as_ref().and_then(|active| active.lives.as_ref()) {
            lives.forget();
        }
        if let Some(active) = ended_run
            && let Some(error) = ended.map_err(anyhow::Error::from).and_then(|inner| inner).err()
        {
            let why = format!("{error:#}");
            if let Some(last) = &mut self.last {
                (last.state, last.detail) = (RunState::Failed, why.clone());
            }
            // Recorded without a flush: this loop answers everyone, on a full disk too.
            let end = run_end(&active.run, RunState::Failed, &why);
            self.recorder.record(Record::RunEnd(end)).await?;
        }
        // A failed run does not stop the queue either.
        self.begin_next().await;
        Ok(())
    }

    /// Clears the count of deaths once the run has completed a step.
    fn forget_lives(&mut self) {
        if let Some(active) = &mut self.active
            && active.control.borrow().stepped()
            && let Some(lives) = active.lives.take()
        {
            lives.forget();
        }
    }

    pub(super) fn overview(&self) -> Overview {
        match &self.active {
            Some(active) => {
                let mut overview = active.control.borrow().overview();
                if self.recorder.is_disk_full() {
                    overview.state = RunState::WaitingDisk;
                } else if self.shutting_down {
                    overview.state = RunState::Stopping;
                } else if let Some(awaited) = self.engines.lobby().and_then(Lobby::awaited) {
                    overview.detail = awaited;
                }
                for device in &mut overview.devices {
                    (device.memory, device.peak) = demask_api::memory::resident(device.pid);
                }
                overview
            }
            None => self.last.clone().unwrap_or_else(|| Control::default().overview()),
        }
    }

    async fn reply(&mut self, asked: PendingCommand) {
        let message = asked.message;
        let reply = match message.command {
            Command::Status => Reply::Status(Box::new(self.overview())),
            Command::Actors => Reply::Actors {
                actors: self.supervisor.roster.views(),
            },
            Command::Run(request) => self.run(&request).await,
            Command::Enqueue(request) => self.enqueue(&message.by, &request).await,
            Command::QueueMove { run, place } => self.queue_move(&message.id, &message.by, &run, place).await,
            Command::QueueCancel { run } => self.queue_cancel(&message.id, &message.by, &run).await,
            // A run that is under way can at most be paused, so a request to resume it becomes an order (below).
            Command::ResumeRun { ref run } if self.is_at_its_end(run) => {
                let run = run.clone();
                self.end_of_active().await;
                self.resume_run(&message.id, &message.by, &run).await
            }
            Command::ResumeRun { run } if self.active.as_ref().is_some_and(|active| active.run == run) => {
                return self.order(&message.id, &message.by, Command::Resume, asked.reply);
            }
            Command::ResumeRun { run } => self.resume_run(&message.id, &message.by, &run).await,
            Command::Shutdown => {
                self.end();
                let (message, step) = (
                    "the daemon will end at the next step boundary".into(),
                    self.overview().step,
                );
                Reply::Accepted { message, step }
            }
            Command::Subscribe { .. } | Command::Follow { .. } => Reply::Accepted {
                message: "subscribed".into(),
                step: self.overview().step,
            },
            Command::Query { .. } => refused("queries are answered by the gateway"),
            question @ Command::Ask { .. } => {
                return self.ask(&message.id, &message.by, question, asked.reply);
            }
            command => return self.order(&message.id, &message.by, command, asked.reply),
        };
        asked.reply.send(reply).ok();
    }

    /// Returns whether this run is still here although it was stopped or has failed. A client that learned of its end
    /// may resume it at once.
    fn is_at_its_end(&self, run: &str) -> bool {
        let ended = |active: &Active| {
            let state = active.control.borrow().overview().state;
            matches!(state, RunState::Stopped | RunState::Failed)
        };
        self.active
            .as_ref()
            .is_some_and(|active| active.run == run && ended(active))
    }

    /// Waits until the run that is at its end is gone, but no longer than [`RECORDED`], as on a full disk.
    async fn end_of_active(&mut self) {
        let gone = tokio::time::timeout(RECORDED, ended(&mut self.active)).await;
        if let Ok(gone) = gone
            && let Err(error) = self.ended(gone).await
        {
            tracing::error!("ending a run failed: {error:#}");
        }
    }

    /// Answers a question to the run's model in a task of its own.
    fn ask(&self, id: &str, by: &str, question: Command, reply: tokio::sync::oneshot::Sender<Reply>) {
        let Some(active) = &self.active else {
            let message =
                "no run is active; `demask generate`, `imagine` and `describe` use a checkpoint instead";
            reply.send(refused(message)).ok();
            return;
        };
        let control = Arc::clone(&active.control.borrow());
        let (home, recorder) = (self.home.clone(), self.recorder.clone());
        let (id, by) = (id.to_owned(), by.to_owned());
        actix::spawn(async move {
            let desk = AnswerDesk {
                home: &home,
                control: &control,
                recorder: &recorder,
            };
            reply.send(desk.answer(&id, &by, question).await).ok();
        });
    }

    /// Hands an order to the run in a task of its own: orders wait for the disk, and a status must be answered
    /// meanwhile.
    fn order(&self, id: &str, by: &str, command: Command, reply: tokio::sync::oneshot::Sender<Reply>) {
        let Some(active) = &self.active else {
            reply
                .send(refused("no run is active; `demask run` starts one"))
                .ok();
            return;
        };
        let (control, recorder) = (Rc::clone(&active.control), self.recorder.clone());
        let (id, by) = (id.to_owned(), by.to_owned());
        let home = self.home.clone();
        actix::spawn(async move {
            // If there is a model, a prompt is answered at once instead of at the end of the step.
            let present = Arc::clone(&control.borrow());
            if let (Command::Sample { prompt, picture }, Some(_)) = (&command, present.model()) {
                let question = Command::Ask {
                    prompt: prompt.clone(),
                    draw: *picture,
                    image: None,
                    direct: false,
                    reference: None,
                };
                let (message, step) = (
                    "accepted; the answer is being computed".to_owned(),
                    present.place().1,
                );
                reply.send(Reply::Accepted { message, step }).ok();
                let desk = AnswerDesk {
                    home: &home,
                    control: &present,
                    recorder: &recorder,
                };
                if let Reply::Refused { message } = desk.answer(&id, &by, question).await {
                    tracing::warn!("asked by {by}: {message}");
                }
                return;
            }
            loop {
                let present = Arc::clone(&control.borrow());
                let taken = present.ask(&recorder, &id, &by, command.clone()).await;
                // Another life began meanwhile and must learn of the order too. An id is taken only once, so asking
                // again is safe.
                if taken.is_ok() && !Arc::ptr_eq(&present, &control.borrow()) {
                    continue;
                }
                let message = "accepted; it takes effect at the next step boundary".to_owned();
                let answer = taken.map_or_else(
                    |error| refused(&error.to_string()),
                    |step| Reply::Accepted { message, step },
                );
                reply.send(answer).ok();
                return;
            }
        });
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

/// Waits for the end of the active run; for ever if there is none.
async fn ended(active: &mut Option<Active>) -> Result<anyhow::Result<()>, JoinError> {
    match active {
        Some(active) => (&mut active.task).await,
        None => std::future::pending().await,
    }
}

pub(super) fn refused(message: &str) -> Reply {
    Reply::Refused {
        message: message.to_owned(),
    }
}
