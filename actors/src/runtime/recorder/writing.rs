//! The writer's end of the recorder's queue: it gathers records, commits them in batches, and tells watchers and the log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use demask_storage::{Alert, Envelope, Level, Record, Steer, StoreError, Writer};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::{Counters, RecorderMessage, SimulatedDisk, now_us};
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

impl Writing {
    /// Commits records until the queue is closed.
    pub(super) async fn run(mut self) {
        // Whether a durable record was lost and no flush was denied since.
        let mut is_untold = false;
        loop {
            let (records, mut flushes, open) = gather(&mut self.items).await;
            if self.disk.acknowledges_early {
                acknowledge(std::mem::take(&mut flushes));
            }
            self.counters.writes_since(Some(Instant::now()));
            if let Some(delay) = &mut self.disk.delay {
                tokio::time::sleep(delay()).await;
            }
            let committed = self.commit(&records).await;
            // Whoever gets an acknowledgement finds that the disk has answered.
            self.counters.writes_since(None);
            // L1: a flush asks for every earlier record, so a lost one denies the next flush, in whichever batch that
            // comes. A denied flush sees its channel close.
            is_untold |= committed == Committed::Lost;
            if !flushes.is_empty() && !std::mem::take(&mut is_untold) && committed == Committed::Whole {
                acknowledge(flushes);
            }
            if !open {
                break;
            }
        }
        if let Err(error) = self.writer.finish() {
            tracing::warn!("the store's write-ahead log could not be checkpointed: {error}");
        }
    }
}

fn acknowledge(flushes: Vec<oneshot::Sender<()>>) {
    for flush in flushes {
        flush.send(()).ok();
    }
}

/// Takes up to [`BATCH`] records, and waits at most [`GATHER`] after the first one. A flush ends the wait. The flag is
/// false when the queue is closed.
async fn gather(
    items: &mut mpsc::Receiver<RecorderMessage>,
) -> (Vec<Record>, Vec<oneshot::Sender<()>>, bool) {
    let (mut records, mut flushes) = (Vec::new(), Vec::new());
    let mut deadline = None;
    while records.len() < BATCH && flushes.is_empty() {
        let next = match deadline {
            None => items.recv().await,
            Some(at) => match tokio::time::timeout_at(at, items.recv()).await {
                Ok(next) => next,
                Err(_) => return (records, flushes, true),
            },
        };
        match next {
            Some(RecorderMessage::Record(record)) => records.push(*record),
            Some(RecorderMessage::Flush(done)) => flushes.push(done),
            Some(RecorderMessage::Close) | None => return (records, flushes, false),
        }
        deadline.get_or_insert_with(|| Instant::now() + GATHER);
    }
    (records, flushes, true)
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Committed {
    /// All of it is written.
    Whole,
    /// It could not be written at once, but every durable record of it is written.
    InParts,
    /// A durable record of it could not be written.
    Lost,
}

impl Writing {
    /// Commits a batch. If that fails, it commits each record by itself, so that one bad record does not lose its
    /// neighbours.
    async fn commit(&mut self, records: &[Record]) -> Committed {
        if records.is_empty() || self.append(records).await {
            return Committed::Whole;
        }
        let mut committed = Committed::InParts;
        for record in records {
            let is_written = records.len() > 1 && self.append(std::slice::from_ref(record)).await;
            if !is_written && record.is_durable() {
                committed = Committed::Lost;
            }
        }
        committed
    }

    /// Commits all of these records or none. While the disk is full or another process locks the database, it waits and
    /// tries again, so that nothing is lost. Returns false when another error prevented the write.
    async fn append(&mut self, records: &[Record]) -> bool {
        let (counters, events) = (&self.counters, &self.events);
        loop {
            wait_for_disk();
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
                    return true;
                }
                Err(StoreError::Full) => {
                    if !counters.full.swap(true, Relaxed) {
                        tracing::error!("the disk is full: the run waits until there is free space");
                        announce_full(events);
                    }
                    tokio::time::sleep(FULL_RETRY).await;
                }
                // The writer has already waited for some seconds.
                Err(StoreError::Busy) => tracing::warn!("the run waits: {}", StoreError::Busy),
                Err(error) => {
                    tracing::error!("{} records could not be written: {error}", records.len());
                    return false;
                }
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
