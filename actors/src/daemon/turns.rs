//! The queue of runs: runs are enqueued, reordered, cancelled, and begun one after another.
//!
//! L1: an acknowledged run stays in the queue until it has a row of its own. `run_lifecycle` writes that row before
//! anything is computed. Whenever the daemon dies, the next one finds the run in exactly one place and begins it once.

use demask_storage::runs::queue::{self, WaitingRun};
use demask_storage::{
    Alert, Level, QueueAction, QueueChange, Queued, Record, Reply, RunRequest, StoreError, store,
};

use super::beginnings::checked;
use super::run_record::{LATE, UNCONFIRMED, recorded_in_time};
use super::server::Daemon;
use crate::runtime::disk::of_store;
use crate::runtime::recorder::Recorded;

/// L2: most runs in the queue.
const MOST: usize = 10_000;
/// The name under which the daemon cancels a run that cannot be begun.
const DAEMON: &str = "daemon";

impl Daemon {
    /// Returns the waiting runs, the next one first. It omits runs that this daemon has begun or refused, because rows
    /// about them may still be on their way.
    async fn waiting(&self) -> Result<Vec<WaitingRun>, StoreError> {
        let path = self.home.database();
        let mut waiting = of_store(move || queue::waiting(&store::open_read_only(&path)?)).await?;
        waiting.retain(|one| !self.begun.contains(&one.run));
        Ok(waiting)
    }

    /// Returns only the ids of the waiting runs.
    async fn ids(&self) -> Result<Vec<String>, StoreError> {
        let path = self.home.database();
        let mut ids = of_store(move || queue::ids(&store::open_read_only(&path)?)).await?;
        ids.retain(|run| !self.begun.contains(run));
        Ok(ids)
    }

    /// Begins the next run of the queue, if none is under way. A run that cannot be begun is cancelled, and the one
    /// after it is tried.
    pub(super) async fn begin_next(&mut self) {
        while self.active.is_none() && !self.desk.is_ending() {
            let waiting = self.waiting().await.unwrap_or_else(|error| {
                tracing::error!("the queue cannot be read: {error}");
                Vec::new()
            });
            let Some((run, request)) = self.first_readable(waiting) else {
                return;
            };
            self.begun.insert(run.clone());
            match self.begun_by(&run, &request).await {
                Ok((begun, profile)) => self.begin(begun, profile, request.from_scratch, 0).await,
                Err(error) => {
                    let reason = format!("the run cannot be started: {error:#}");
                    tracing::error!("run {run}: {reason}");
                    let id = format!("{run}/cancelled");
                    let change = QueueAction::Cancel { run, reason };
                    self.change(&id, DAEMON, change).await.ok();
                }
            }
        }
    }

    /// Returns the first run that this version can read, with its request. The others stay in the queue, for another version
    /// or until the user cancels them; each is told of once.
    fn first_readable(&mut self, waiting: Vec<WaitingRun>) -> Option<(String, RunRequest)> {
        waiting.into_iter().find_map(|one| match one.request {
            Ok(request) => Some((one.run, request)),
            Err(why) => {
                if self.skipped.insert(one.run.clone()) {
                    let message = format!(
                        "{why}; it is skipped: `demask queue cancel {}` removes it",
                        one.run
                    );
                    self.recorder.offer(Record::Alert(Alert {
                        run: one.run,
                        step: 0,
                        level: Level::Warn,
                        kind: "queue".to_owned(),
                        message,
                    }));
                }
                None
            }
        })
    }

    pub(super) async fn enqueue(&mut self, id: &str, by: &str, request: &RunRequest) -> Reply {
        if self.desk.is_ending() {
            return Reply::refused("the daemon is ending");
        }
        match self.ids().await {
            Ok(ids) if ids.len() < MOST => {}
            Ok(ids) => {
                return Reply::refused(&format!(
                    "{} runs are queued already, expected at most {MOST}",
                    ids.len()
                ));
            }
            Err(error) => return Reply::refused(&error.to_string()),
        }
        let run = match checked(id, request) {
            Ok(run) => run,
            Err(error) => return Reply::refused(&format!("{error:#}")),
        };
        let begun = match self.begun_by(&run, request).await {
            Ok((begun, _)) => begun,
            Err(error) => return Reply::refused(&format!("{error:#}")),
        };
        let queued = Queued {
            run: run.clone(),
            by: by.to_owned(),
            profile: begun.profile,
            config_hash: begun.config_hash,
            request: request.clone(),
        };
        let (cancelled, reason) = (format!("{run}/cancelled"), LATE.to_owned());
        let cancel = QueueAction::Cancel {
            run: run.clone(),
            reason,
        };
        let cancel = change(&cancelled, DAEMON, cancel);
        // On a full disk this wait would keep other runs from being queued.
        let recorded = recorded_in_time(&self.recorder, vec![Record::Queued(queued)], Some(cancel)).await;
        match recorded {
            Ok(Recorded::Yes) => {}
            Ok(Recorded::Never) => return Reply::refused(&format!("the run was not queued: {LATE}")),
            Ok(Recorded::Unknown) => {
                // Its row may come, and for a moment without the row that cancels it.
                let refusal = format!("run {run} was not queued: {UNCONFIRMED}");
                self.begun.insert(run);
                return Reply::refused(&refusal);
            }
            Err(error) => return Reply::refused(&error.to_string()),
        }
        self.queued(run).await
    }

    /// Begins the next run if none is under way, and says where in the queue this run is, which is on the disk.
    pub(super) async fn queued(&mut self, run: String) -> Reply {
        let waiting = self.ids().await.unwrap_or_default();
        let before = waiting.iter().take_while(|one| **one != run).count() as u64;
        let ahead = before + u64::from(self.active.is_some());
        self.begin_next().await;
        Reply::Queued { run, ahead }
    }

    pub(super) async fn queue_move(&mut self, id: &str, by: &str, run: &str, place: u64) -> Reply {
        let change = self.named(run).await.map(|(run, waiting)| {
            let order: Vec<String> = waiting.into_iter().map(|one| one.run).collect();
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let runs = queue::moved(&order, &run, place);
            let now = runs.iter().position(|one| *one == run).unwrap_or(0) + 1;
            let said = format!("run {run} is number {now} of {} in the queue", runs.len());
            (QueueAction::Order { runs }, said)
        });
        self.changed(id, by, change).await
    }

    pub(super) async fn queue_cancel(&mut self, id: &str, by: &str, run: &str) -> Reply {
        if let Some(active) = self.active.as_ref().filter(|active| active.run == run) {
            return Reply::refused(&format!("run {} is active; `demask stop` ends it", active.run));
        }
        let change = self.named(run).await.map(|(run, _)| {
            let said = format!("run {run} was removed from the queue");
            let reason = "the user cancelled it".to_owned();
            (QueueAction::Cancel { run, reason }, said)
        });
        self.changed(id, by, change).await
    }

    /// Returns the id of the run that `run` names, and all waiting runs.
    async fn named(&self, run: &str) -> Result<(String, Vec<WaitingRun>), String> {
        let waiting = self.waiting().await.map_err(|error| error.to_string())?;
        let found = queue::named(&waiting, run)?.run.clone();
        Ok((found, waiting))
    }

    async fn changed(&self, id: &str, by: &str, asked: Result<(QueueAction, String), String>) -> Reply {
        let (action, message) = match asked {
            Ok(asked) => asked,
            Err(message) => return Reply::refused(&message),
        };
        match self.change(id, by, action).await {
            Ok(()) => Reply::Accepted {
                message,
                step: self.overview().step,
            },
            Err(message) => Reply::refused(&message),
        }
    }

    /// L4: the user's change of the queue is a row on disk before it is acknowledged, and a refused one is none.
    async fn change(&self, id: &str, by: &str, action: QueueAction) -> Result<(), String> {
        match recorded_in_time(&self.recorder, vec![change(id, by, action)], None).await {
            Ok(Recorded::Yes) => Ok(()),
            Ok(Recorded::Never) => Err(format!("{LATE} The queue is unchanged")),
            // The row may be on its way, and is not taken back.
            Ok(Recorded::Unknown) => Err(
                "the disk has not answered, so it may still take effect: `demask queue list` shows whether it did".to_owned(),
            ),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn change(id: &str, by: &str, change: QueueAction) -> Record {
    Record::Queue(QueueChange {
        id: id.to_owned(),
        by: by.to_owned(),
        change,
    })
}
