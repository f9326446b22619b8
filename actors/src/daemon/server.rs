//! The background process of a home: one recorder, one control socket, and at most one run at a time. How a run starts
//! is in `beginnings.rs` and `turns.rs`.
//!
//! L10: this loop may wait for the disk. Whatever a person must not wait for is answered by `front_desk.rs` meanwhile.
//!
//! L1: a run that did not end continues when the daemon starts. A life of it that ends in an engine's death or a panic
//! is followed by another from the last checkpoint. SIGTERM finishes the step, saves a checkpoint and flushes the
//! store; a second signal ends the process at once. A client that asks for the end twice does not make it wait for a disk
//! that does not answer.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use demask_storage::{Alert, Command, Level, Overview, Record, RunState};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::front_desk::{FrontDesk, StopSignals, refused};
use super::lives::Lives;
use super::run_record::{RECORDED, run_end};
use super::{sockets, store_health};
use crate::control::gateway::{self, CommandQueues, PendingCommand};
use crate::control::pending_order::PresentControl;
use crate::engine::join::door::OpenDoor;
use crate::engine::join::listen::JoinDoor;
use crate::engine::join::lobby::Lobby;
use crate::engine::starter::{EngineStarter, ProcessStarter};
use crate::home::Home;
use crate::run::context::RunDriver;
use crate::run::driver::StageDriver;
use crate::runtime::disk::on_disk;
use crate::runtime::log;
use crate::runtime::loop_watch::LoopWatch;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::{Probe, RestartBudget, SupervisorHandle};

/// Time between two looks whether the run has completed a step.
const LOOK: Duration = Duration::from_millis(250);
/// Time that clients have to read the last reply.
const GOODBYE: Duration = Duration::from_millis(50);
/// Longest wait for work that still waits for the disk when every row is on it.
const LAST_WORK: Duration = Duration::from_secs(4);
/// Commands that fit into each queue.
const QUEUE: usize = 32;

/// Serves a home until it is told to end, and lets engines join at a door if one is given. Blocks.
///
/// # Errors
/// An error if another daemon holds the home's lock, or if the store, the socket or the door cannot be opened.
pub fn serve(home: &Home, door: Option<&JoinDoor>) -> anyhow::Result<()> {
    serve_all(home, Rc::new(StageDriver::default()), door, true)
}

/// Serves a home as [`serve`] does, with another driver of the runs and no door.
///
/// # Errors
/// As [`serve`].
pub fn serve_with(home: &Home, driver: Rc<dyn RunDriver>) -> anyhow::Result<()> {
    serve_all(home, driver, None, false)
}

/// Serves a home. It may end the process only if it owns it.
fn serve_all(
    home: &Home,
    driver: Rc<dyn RunDriver>,
    door: Option<&JoinDoor>,
    owns_process: bool,
) -> anyhow::Result<()> {
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
    let system = actix::System::new();
    let served = system.block_on(serving);
    if let Err(error) = &served
        && error.is::<EndedWithoutDisk>()
        && owns_process
    {
        tracing::error!("{error}");
        log::flush();
        std::process::exit(1);
    }
    let last_work = owns_process
        .then(|| end_without_last_work(served.is_ok()))
        .flatten();
    drop(system);
    recorder.close();
    thread.join().ok();
    if let Ok(socket) = home.socket() {
        std::fs::remove_file(socket).ok();
    }
    drop(last_work);
    tracing::info!("daemon ended");
    served
}

/// The end of a daemon that was told twice to end, on a disk that does not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the daemon ends without the rows that the disk has not confirmed; nothing acknowledged is lost, and the next daemon \
     continues from there"
)]
pub struct EndedWithoutDisk;

/// Ends the process if the returned sender is not dropped soon (law L10). `None` if the system cannot start a thread.
///
/// A runtime that is dropped waits for the work on its threads, and a recorder that is closed for the transfer of its
/// log into the database. On a disk that does not answer neither ends, and nothing handles signals any more. What was
/// acknowledged is on the disk by now, so the next daemon continues from there, as after `kill -9`.
fn end_without_last_work(is_well: bool) -> Option<Sender<()>> {
    let (ended, waits) = channel();
    let end = move || {
        if waits.recv_timeout(LAST_WORK) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the daemon ends without its last work, because the disk does not answer");
            log::flush();
            std::process::exit(i32::from(!is_well));
        }
    };
    let thread = std::thread::Builder::new().name("last-work".into());
    thread.spawn(end).ok().map(|_| ended)
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
/// An error if the store or the socket cannot be opened, or if the recorder has ended; [`EndedWithoutDisk`].
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
    pub(super) control: PresentControl,
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
    pub(super) desk: Rc<FrontDesk>,
    pub(super) active: Option<Active>,
    /// Queued runs that this daemon has begun, and those that it does not begin because it refused to queue them.
    pub(super) begun: HashSet<String>,
}

impl Daemon {
    async fn serve(
        home: Home,
        recorder: Recorder,
        driver: Rc<dyn RunDriver>,
        engines: Arc<dyn EngineStarter>,
    ) -> anyhow::Result<()> {
        let signals = StopSignals::catch()?;
        let (patient, asked) = mpsc::channel(QUEUE);
        let (prompt, asked_promptly) = mpsc::channel(QUEUE);
        let supervisor = SupervisorHandle::open(recorder.clone(), RestartBudget::default());
        let _watch = LoopWatch::begin(recorder.clone(), supervisor.roster.clone());
        let written = supervisor.roster.add("recorder", "supervisor");
        let served = supervisor.roster.add("gateway", "supervisor");
        let desk = FrontDesk::new(&home, &recorder, &engines, &supervisor.roster, driver.faults());
        let mut daemon = Self {
            home,
            recorder,
            driver,
            engines,
            supervisor,
            desk: Rc::clone(&desk),
            active: None,
            begun: HashSet::new(),
        };
        // Before anything waits for the disk, so that a second signal ends the daemon also while it starts.
        let at_desk = actix::spawn(Rc::clone(&desk).serve(asked_promptly, signals, written));
        let queues = CommandQueues { prompt, patient };
        tokio::select! {
            biased;
            () = desk.is_without_disk() => {
                // The last reply is on its way to its client.
                tokio::time::sleep(GOODBYE).await;
                Err(EndedWithoutDisk.into())
            }
            served = daemon.serve_until_end(queues, asked, served, at_desk) => served,
        }
    }

    /// Continues the run that did not end, and serves clients until the daemon is told to end and every row is on the
    /// disk.
    async fn serve_until_end(
        &mut self,
        queues: CommandQueues,
        mut asked: mpsc::Receiver<PendingCommand>,
        served: Probe,
        mut at_desk: JoinHandle<()>,
    ) -> anyhow::Result<()> {
        self.go_on().await?;
        let gateway = gateway::open(&self.home, self.recorder.clone(), queues, served)?;
        let desk = Rc::clone(&self.desk);
        let mut tick = tokio::time::interval(LOOK);
        while !(desk.is_ending() && self.active.is_none()) {
            tokio::select! {
                biased;
                () = desk.is_told_to_end(), if !desk.is_ending() => {}
                // Without it no client and no signal would be answered. It serves without end unless it panics.
                failed = &mut at_desk => anyhow::bail!("the front desk has ended: {failed:?}"),
                ended = ended(&mut self.active) => self.ended(ended).await?,
                _ = tick.tick() => self.forget_lives().await,
                Some(asked) = asked.recv() => self.reply(asked).await,
            }
        }
        drop(asked);
        // L10: on a disk that does not answer this waits, while the desk says so and handles signals.
        self.recorder.flush().await?;
        // The last reply is on its way to its client.
        tokio::time::sleep(GOODBYE).await;
        gateway.abort();
        self.supervisor.shut_down().await;
        let flushed = self.recorder.flush().await;
        at_desk.abort();
        Ok(flushed?)
    }

    async fn ended(&mut self, ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Result<()> {
        let mut last = self.overview();
        let ended_run = self.active.take();
        if let Some(active) = &ended_run {
            // What the desk shows beside the run's own state, such as a disk that was waited for or an engine that had to
            // join, does not outlive the run.
            let own = active.control.borrow().overview();
            (last.state, last.detail) = (own.state, own.detail);
        }
        if ended.is_err() {
            // It panicked before it let its actors go. The next run would be driven with them.
            self.driver.let_go();
        }
        let failure = ended.map_err(anyhow::Error::from).and_then(|inner| inner).err();
        let failure = failure.map(|error| format!("{error:#}"));
        if let Some(why) = &failure {
            (last.state, last.detail) = (RunState::Failed, why.clone());
        }
        self.desk.leave(last);
        if let Some(active) = ended_run {
            forget(active.lives).await;
            if let Some(why) = failure {
                // Recorded without a flush, so that the next run need not wait for it.
                let end = run_end(&active.run, RunState::Failed, &why);
                self.recorder.record(Record::RunEnd(end)).await?;
            }
        }
        // A failed run does not stop the queue either.
        self.begin_next().await;
        Ok(())
    }

    /// Clears the count of deaths once the run has completed a step.
    async fn forget_lives(&mut self) {
        let Some(active) = &mut self.active else {
            return;
        };
        let has_stepped = active.control.borrow().stepped();
        if has_stepped {
            forget(active.lives.take()).await;
        }
    }

    pub(super) fn overview(&self) -> Overview {
        self.desk.overview()
    }

    /// Answers a command that waits for the disk. The front desk answers all others meanwhile.
    async fn reply(&mut self, asked: PendingCommand) {
        let message = asked.message;
        let reply = match message.command {
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
                let resume = Command::Resume;
                return self.desk.order(&message.id, &message.by, resume, asked.reply);
            }
            Command::ResumeRun { run } => self.resume_run(&message.id, &message.by, &run).await,
            _ => refused("this command is answered by the front desk"),
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
}

/// Waits for the end of the active run; for ever if there is none.
async fn ended(active: &mut Option<Active>) -> Result<anyhow::Result<()>, JoinError> {
    match active {
        Some(active) => (&mut active.task).await,
        None => std::future::pending().await,
    }
}

/// Clears the count of daemons that died of a run.
async fn forget(lives: Option<Lives>) {
    if let Some(lives) = lives {
        on_disk(move || lives.forget()).await.ok();
    }
}
