//! The writer's end of the recorder's queue: it gathers records, commits them in batches, and tells watchers and the log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use demask_storage::{Alert, Envelope, Level, Record, Steer, StoreError, Writer};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::withdrawal::{GroupAnswer, RowGroup};
use super::{Counters, Flush, NotRecorded, RecorderMessage, SimulatedDisk, now_us};
use crate::runtime::fault_injection::wait_for_disk;

/// Most records in one transaction.
pub(super) const BATCH: usize = 256;
/// Longest time that a record waits for others to share its transaction.
const GATHER: Duration = Duration::from_millis(100);
/// Time between two tries while the disk is full.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// The writer's end of the queue.
pub(super) struct Writing {
    pub(super) writer: Writer,
    pub(super) items: mpsc::Receiver<RecorderMessage>,
    pub(super) events: broadcast::Sender<Envelope>,
    pub(super) counters: Arc<Counters>,
    pub(super) disk: SimulatedDisk,
}

/// What is taken from the queue at a time: records, and one of those that end a batch.
#[derive(Default)]
struct RecordBatch {
    records: Vec<Record>,
    flush: Option<(Flush, oneshot::Sender<Result<(), NotRecorded>>)>,
    group: Option<(Arc<RowGroup>, oneshot::Sender<GroupAnswer>)>,
    is_last: bool,
}

/// How an attempt to commit records ended.
enum Attempt {
    Written,
    /// Nothing was written, and it can be tried again.
    Full,
    /// As `Full`: another program has locked the database, and the writer has already waited for some seconds.
    Busy,
    /// Nothing was written, for this reason.
    Failed(String),
}

impl Writing {
    /// Commits records until the queue is closed.
    pub(super) async fn run(mut self) {
        // Whether a durable record was lost and no flush was denied since.
        let mut is_untold = false;
        loop {
            let mut gathered = gather(&mut self.items).await;
            if self.disk.acknowledges_early {
                acknowledge_early(&mut gathered);
            }
            self.counters.writes_since(Some(Instant::now()));
            if let Some(delay) = &mut self.disk.delay {
                tokio::time::sleep(delay()).await;
            }
            // L1: a flush asks for every earlier record, so a lost one denies the next flush, in whichever batch that
            // comes.
            is_untold |= !self.commit(&gathered.records).await;
            let mut answer = None;
            if let Some((group, done)) = gathered.group {
                // A life begins at its last checkpoint: what was lost before is written again, or is of another run.
                is_untold &= !group.rows.iter().any(|row| matches!(row, Record::Run(_)));
                answer = self.commit_group(&group).await.map(|said| (done, said));
            }
            // Whoever gets an acknowledgement finds that the disk has answered.
            self.counters.writes_since(None);
            if let Some((done, said)) = answer {
                done.send(said).ok();
            }
            if let Some((flush, done)) = gathered.flush {
                let is_denied = flush == Flush::Written && std::mem::take(&mut is_untold);
                done.send(if is_denied { Err(lost()) } else { Ok(()) }).ok();
            }
            if gathered.is_last {
                break;
            }
        }
        if let Err(error) = self.writer.finish() {
            tracing::warn!("the store's write-ahead log could not be checkpointed: {error}");
        }
    }
}

/// Returns the error of a flush that follows a lost record.
fn lost() -> NotRecorded {
    NotRecorded::Impossible("an earlier record could not be written; the daemon's log says why".to_owned())
}

/// Says that everything is written, which no disk may do before it is.
fn acknowledge_early(gathered: &mut RecordBatch) {
    if let Some((_, done)) = gathered.flush.take() {
        done.send(Ok(())).ok();
    }
    if let Some((_, done)) = &mut gathered.group {
        let (nobody, _) = oneshot::channel();
        std::mem::replace(done, nobody).send(Ok(true)).ok();
    }
}

/// Takes up to [`BATCH`] records, and waits at most [`GATHER`] after the first one. A flush, a group of rows and the end of
/// the queue end the wait.
async fn gather(items: &mut mpsc::Receiver<RecorderMessage>) -> RecordBatch {
    let mut gathered = RecordBatch::default();
    let mut deadline = None;
    while gathered.records.len() < BATCH {
        let next = match deadline {
            None => items.recv().await,
            Some(at) => match tokio::time::timeout_at(at, items.recv()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(RecorderMessage::Record(record)) => gathered.records.push(*record),
            Some(RecorderMessage::Together(group, done)) => {
                gathered.group = Some((group, done));
                break;
            }
            Some(RecorderMessage::Flush(flush, done)) => {
                gathered.flush = Some((flush, done));
                break;
            }
            Some(RecorderMessage::Close) | None => {
                gathered.is_last = true;
                break;
            }
        }
        deadline.get_or_insert_with(|| Instant::now() + GATHER);
    }
    gathered
}

impl Writing {
    /// Commits a batch. If that fails, it commits each record by itself, so that one bad record does not lose its
    /// neighbours. Returns whether every durable record is written.
    async fn commit(&mut self, records: &[Record]) -> bool {
        if records.is_empty() || self.append(records).await {
            return true;
        }
        let mut is_whole = true;
        for record in records {
            let is_written = records.len() > 1 && self.append(std::slice::from_ref(record)).await;
            is_whole &= is_written || !record.is_durable();
        }
        is_whole
    }

    /// Commits all of these records or none. While the disk is full or another process locks the database, it waits and
    /// tries again, so that nothing is lost. Returns false when another error prevented the write.
    async fn append(&mut self, records: &[Record]) -> bool {
        loop {
            wait_for_disk();
            match self.attempt(records) {
                Attempt::Written => return true,
                Attempt::Full => tokio::time::sleep(FULL_RETRY).await,
                Attempt::Busy => {}
                Attempt::Failed(_) => return false,
            }
        }
    }

    /// Commits the rows of a group as [`Self::append`] does, unless they are withdrawn. Returns what became of them; `None`
    /// if nobody waits for it any more.
    async fn commit_group(&mut self, group: &RowGroup) -> Option<GroupAnswer> {
        let said = self.append_group(group).await;
        if said == Ok(false) {
            // Nothing waits for room any more.
            self.counters.full.store(false, Relaxed);
        }
        if group.ends() {
            return Some(said);
        }
        if let (Ok(true), Some(taken_back)) = (said, &group.taken_back) {
            self.append(std::slice::from_ref(taken_back)).await;
        }
        None
    }

    async fn append_group(&mut self, group: &RowGroup) -> GroupAnswer {
        loop {
            wait_for_disk();
            if !group.begins() {
                return Ok(false);
            }
            let attempt = self.attempt(&group.rows);
            match attempt {
                Attempt::Written => return Ok(true),
                Attempt::Failed(error) => return Err(NotRecorded::Impossible(error)),
                Attempt::Full | Attempt::Busy if !group.may_try_again() => return Ok(false),
                Attempt::Full => tokio::time::sleep(FULL_RETRY).await,
                Attempt::Busy => {}
            }
        }
    }

    /// Tries once to commit all of these records or none, and tells watchers and the log.
    fn attempt(&mut self, records: &[Record]) -> Attempt {
        let (counters, events) = (&self.counters, &self.events);
        match self.writer.append(records, now_us()) {
            Ok(envelopes) => {
                if counters.full.swap(false, Relaxed) {
                    tracing::info!("the disk has free space again");
                }
                for envelope in envelopes {
                    note(&envelope.record);
                    counters.written.store(envelope.seq, Relaxed);
                    events.send(envelope).ok();
                }
                Attempt::Written
            }
            Err(StoreError::Full) => {
                if !counters.full.swap(true, Relaxed) {
                    tracing::error!("the disk is full: the run waits until there is free space");
                    announce_full(events);
                }
                Attempt::Full
            }
            Err(StoreError::Busy) => {
                tracing::warn!("the run waits: {}", StoreError::Busy);
                Attempt::Busy
            }
            Err(error) => {
                tracing::error!("{} records could not be written: {error}", records.len());
                Attempt::Failed(error.to_string())
            }
        }
    }
}

/// Writes what matters of a record to the daemon's log as well.
fn note(record: &Record) {
    match record {
        Record::RunEnd(end) => tracing::info!("run {} {}: {}", end.run, end.status, end.reason),
        Record::Checkpoint(saved) if saved.kept => {
            tracing::info!("checkpoint at step {} ({})", saved.step, saved.reason);
        }
        Record::Steer(steer) => note_steer(steer),
        Record::Alert(alert) if alert.level == Level::Error => {
            tracing::error!("step {}: {}: {}", alert.step, alert.kind, alert.message);
        }
        Record::Alert(alert) => tracing::warn!("step {}: {}: {}", alert.step, alert.kind, alert.message),
        _ => {}
    }
}

fn note_steer(steer: &Steer) {
    let what = [
        Some(steer.action.word()),
        steer.key.as_deref(),
        steer.new.as_deref(),
    ];
    let what: Vec<&str> = what.into_iter().flatten().collect();
    let (what, by) = (what.join(" "), &steer.by);
    match steer.applied_step {
        None => tracing::info!("{by} requested at step {}: {what}", steer.asked_step),
        Some(step) => tracing::info!("took effect at step {step}: {what}"),
    }
}

fn announce_full(events: &broadcast::Sender<Envelope>) {
    let message = "the disk is full; the run waits until there is free space, and nothing is lost".to_owned();
    let kind = "disk_full".to_owned();
    let record = Record::Alert(Alert {
        run: String::new(),
        step: 0,
        level: Level::Error,
        kind,
        message,
    });
    events
        .send(Envelope {
            seq: 0,
            at_us: now_us(),
            record,
        })
        .ok();
}
