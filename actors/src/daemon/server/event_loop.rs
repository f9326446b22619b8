//! The loop of the daemon, with its state: commands that wait for the disk, the run that is under way, and the end.
//!
//! L10: this loop may wait for the disk. Whatever a person must not wait for is answered by `front_desk/` meanwhile.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use demask_storage::{Command, Overview, Record, Reply, RunState};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::control::gateway::{self, CommandQueues, PendingCommand};
use crate::control::pending_order::PresentControl;
use crate::daemon::front_desk::{FrontDesk, StopSignals};
use crate::daemon::lives::Lives;
use crate::daemon::run_record::{RECORDED, run_end};
use crate::engine::starter::EngineStarter;
use crate::home::Home;
use crate::run::context::RunDriver;
use crate::runtime::disk::on_disk;
use crate::runtime::loop_watch::LoopWatch;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::{Probe, RestartBudget, SupervisorHandle};

/// Time between two looks whether the run has completed a step.
const LOOK: Duration = Duration::from_millis(250);
/// Time that clients have to read the last reply.
const GOODBYE: Duration = Duration::from_millis(50);
/// Commands that fit into each queue.
const QUEUE: usize = 32;

/// The end of a daemon that was told twice to end, on a disk that does not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the daemon ends without the rows that the disk has not confirmed; nothing acknowledged is lost, and the next daemon \
     continues from there"
)]
pub struct EndedWithoutDisk;

/// The run that is under way. Each life has a new control.
pub(in crate::daemon) struct Active {
    pub(in crate::daemon) run: String,
    pub(in crate::daemon) control: PresentControl,
    /// Count of the daemons that died of it; `None` once a step is done.
    pub(in crate::daemon) lives: Option<Lives>,
    pub(in crate::daemon) task: JoinHandle<anyhow::Result<()>>,
}

pub(in crate::daemon) struct Daemon {
    pub(in crate::daemon) home: Home,
    pub(in crate::daemon) recorder: Recorder,
    pub(in crate::daemon) driver: Rc<dyn RunDriver>,
    pub(in crate::daemon) engines: Arc<dyn EngineStarter>,
    pub(in crate::daemon) supervisor: SupervisorHandle,
    pub(in crate::daemon) desk: Rc<FrontDesk>,
    pub(in crate::daemon) active: Option<Active>,
    /// Queued runs that this daemon has begun, and those that it does not begin because it refused to queue them.
    pub(in crate::daemon) begun: HashSet<String>,
    /// Queued runs that this daemon cannot read and has told of.
    pub(in crate::daemon) skipped: HashSet<String>,
}

impl Daemon {
    pub(super) async fn serve(
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
            skipped: HashSet::new(),
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
        self.recorder.settle().await?;
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

    pub(in crate::daemon) fn overview(&self) -> Overview {
        self.desk.overview()
    }

    /// Answers a command that waits for the disk. The front desk answers all others meanwhile.
    async fn reply(&mut self, asked: PendingCommand) {
        let message = asked.message;
        let reply = match message.command {
            Command::Run(request) => match self.repeated(&message.id, &request, false).await {
                Some(known) => known,
                None => self.run(&message.id, &request).await,
            },
            Command::Enqueue(request) => match self.repeated(&message.id, &request, true).await {
                Some(known) => known,
                None => self.enqueue(&message.id, &message.by, &request).await,
            },
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
            _ => Reply::refused("this command is answered by the front desk"),
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
