//! The recorder: the single writer of the store, on a thread of its own. It commits records in batches and publishes
//! committed events as a stream.
//!
//! L2: the queue is bounded. A durable record waits for room; a record that may be thinned is dropped and counted.
//!
//! Here is the actors' end of the queue; the writer's end is in `writing.rs`. Rows that are committed apart from all others,
//! and that may be withdrawn, are in `withdrawal.rs`.

mod withdrawal;
mod writing;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demask_storage::{Envelope, Record, StoreError, Writer};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

pub use withdrawal::Recorded;
use withdrawal::{GroupAnswer, RowGroup};
use writing::Writing;

/// Records that fit into the queue.
const QUEUE: usize = 1024;
/// Events that a slow watcher may lag behind.
const BEHIND: usize = 4096;

enum RecorderMessage {
    Record(Box<Record>),
    /// Rows that are committed together and apart from all others, and who waits for the outcome.
    Together(Arc<RowGroup>, oneshot::Sender<GroupAnswer>),
    /// A request that is answered once nothing earlier is still to be committed.
    Flush(Flush, oneshot::Sender<Result<(), NotRecorded>>),
    /// The end of the queue: nothing may follow.
    Close,
}

/// What a request to flush asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// That every earlier record is written.
    Written,
    /// That nothing earlier is on its way.
    Settled,
}

#[derive(Debug, Default)]
struct Counters {
    dropped: AtomicU64,
    full: AtomicBool,
    written: AtomicU64,
    /// Time at which the present write began; `None` between two writes.
    writing_since: Mutex<Option<Instant>>,
}

impl Counters {
    fn writes_since(&self, begun: Option<Instant>) {
        *self.writing_since.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    }
}

/// The error that something is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The recorder has ended.
    #[error("the recorder has ended, so nothing can be recorded")]
    Gone,
    /// The store does not take the rows; the recorder goes on.
    #[error("the store could not record it: {0}")]
    Impossible(String),
}

/// A handle through which actors record. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<RecorderMessage>,
    events: broadcast::Sender<Envelope>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for RecorderMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Record(_) => "Record",
            Self::Together(..) => "Together",
            Self::Flush(..) => "Flush",
            Self::Close => "Close",
        })
    }
}

impl Recorder {
    /// Opens the store and starts the writer's thread. Join the thread after the last clone is dropped.
    ///
    /// # Errors
    /// Any error of [`Writer::open`]; [`StoreError::Io`] if the system cannot start a thread.
    pub fn start(database: &Path) -> Result<(Self, std::thread::JoinHandle<()>), StoreError> {
        let (recorder, writing) = Self::open(database, SimulatedDisk::default())?;
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(writing.run()),
                Err(error) => tracing::error!("nothing can be recorded: {error}"),
            }
        };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(body);
        let thread = thread.map_err(|source| StoreError::Io {
            path: database.to_owned(),
            source,
        })?;
        Ok((recorder, thread))
    }

    /// Opens the store and runs the writer as a task of the present thread, by its clock and on a simulated disk.
    ///
    /// # Errors
    /// Any error of [`Writer::open`].
    pub fn start_here(database: &Path, disk: SimulatedDisk) -> Result<Self, StoreError> {
        let (recorder, writing) = Self::open(database, disk)?;
        tokio::task::spawn_local(writing.run());
        Ok(recorder)
    }

    fn open(database: &Path, disk: SimulatedDisk) -> Result<(Self, Writing), StoreError> {
        let writer = Writer::open(database)?;
        let (queue, items) = mpsc::channel(QUEUE);
        let (events, _) = broadcast::channel(BEHIND);
        let last = demask_storage::events::last_seq(writer.connection())?;
        let counters = Arc::new(Counters {
            written: AtomicU64::new(last),
            ..Default::default()
        });
        let writing = Writing {
            writer,
            items,
            events: events.clone(),
            counters: Arc::clone(&counters),
            disk,
        };
        let recorder = Self {
            queue,
            events,
            counters,
        };
        Ok((recorder, writing))
    }

    /// Records `record`. A durable record waits for room in the queue (L2); any other is dropped and counted when there
    /// is none.
    ///
    /// # Errors
    /// [`NotRecorded::Gone`] when the recorder has ended.
    pub async fn record(&self, record: Record) -> Result<(), NotRecorded> {
        if record.is_durable() {
            return self.send(RecorderMessage::Record(Box::new(record))).await;
        }
        self.offer(record);
        Ok(())
    }

    /// Records a record that may be thinned, without waiting.
    pub fn offer(&self, record: Record) {
        if !record.stored() {
            let seq = self.counters.written.load(Relaxed);
            self.events
                .send(Envelope {
                    seq,
                    at_us: now_us(),
                    record,
                })
                .ok();
        } else if self
            .queue
            .try_send(RecorderMessage::Record(Box::new(record)))
            .is_err()
        {
            self.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until every earlier record is committed.
    ///
    /// # Errors
    /// [`NotRecorded::Gone`] when the recorder has ended; [`NotRecorded::Impossible`] when a durable record could not be
    /// written since a run's life began and no flush has told it yet. Rows of [`Self::record_together`] have answers of
    /// their own.
    pub async fn flush(&self) -> Result<(), NotRecorded> {
        self.flushed(Flush::Written).await
    }

    /// Waits until nothing earlier is still to be committed, whatever became of it.
    ///
    /// # Errors
    /// [`NotRecorded::Gone`] when the recorder has ended.
    pub async fn settle(&self) -> Result<(), NotRecorded> {
        self.flushed(Flush::Settled).await
    }

    async fn flushed(&self, flush: Flush) -> Result<(), NotRecorded> {
        let (done, wait) = oneshot::channel();
        self.send(RecorderMessage::Flush(flush, done)).await?;
        wait.await.map_err(|_| NotRecorded::Gone)?
    }

    /// Waits for room in the queue (L2).
    async fn send(&self, message: RecorderMessage) -> Result<(), NotRecorded> {
        self.queue.send(message).await.map_err(|_| NotRecorded::Gone)
    }

    /// Ends the writer's thread even if clones of this handle remain. Call it once, as the last call, after
    /// [`Self::flush`].
    pub fn close(&self) {
        self.queue.blocking_send(RecorderMessage::Close).ok();
    }

    /// Subscribes to events that are committed from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Envelope> {
        self.events.subscribe()
    }

    /// Returns how many records were thinned so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Relaxed)
    }

    /// Returns the sequence number of the last committed event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.counters.written.load(Relaxed)
    }

    /// Returns whether the writer is waiting for room on the disk.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.counters.full.load(Relaxed)
    }

    /// Returns for how long the present write has been under way; `None` between two writes.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        let since = self.counters.writing_since.lock();
        let since = *since.unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// Returns the number of queued records and the queue's capacity.
    #[must_use]
    pub fn queue(&self) -> (u64, u64) {
        ((QUEUE - self.queue.capacity()) as u64, QUEUE as u64)
    }
}

/// Returns the present time in microseconds since the Unix epoch.
#[must_use]
pub fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The behaviour of a simulated disk. The default behaves like a real one.
#[derive(Default)]
pub struct SimulatedDisk {
    /// Extra time that the next commit takes; `None` adds nothing.
    pub delay: Option<Box<dyn FnMut() -> Duration + Send>>,
    /// Whether it acknowledges records before it has written them, which no disk may do: a bug that a simulation must
    /// find (L4).
    pub acknowledges_early: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::writing::BATCH;
    use super::*;
    use demask_storage::{Metric, TrainUse, events::events_since};

    pub(super) fn used(step: u64) -> Record {
        Record::TrainUse(TrainUse {
            run: "r".into(),
            step,
            stage: "s".into(),
            subjects: vec![format!("e{step}")],
        })
    }

    fn metric(step: u64) -> Record {
        Record::Metric(Metric {
            run: "r".into(),
            step,
            values: vec![("a/b".into(), 1.0)],
        })
    }

    /// Another connection locks the database, so that nothing leaves the queue.
    #[tokio::test]
    async fn l2_a_full_queue_makes_what_is_durable_wait_and_thins_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let (recorder, thread) = Recorder::start(&path).unwrap();
        let other = demask_storage::store::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut sent = 0;
        let waiting = loop {
            let mut next = Box::pin(tokio::task::unconstrained(recorder.record(used(sent))));
            sent += 1;
            if std::future::poll_fn(|turn| std::task::Poll::Ready(next.as_mut().poll(turn)))
                .await
                .is_pending()
            {
                break next;
            }
            assert!(sent <= (QUEUE + BATCH + 1) as u64, "the queue has no end");
        };
        assert_eq!(recorder.dropped(), 0);
        // The writer may take its first batch only now.
        let full = (0..(QUEUE + BATCH) as u64).any(|step| {
            recorder.offer(metric(step));
            recorder.dropped() > 0
        });
        assert!(full, "what may be thinned finds room without end");
        other.execute_batch("COMMIT").unwrap();
        waiting.await.unwrap();
        recorder.flush().await.unwrap();
        drop(recorder);
        thread.join().unwrap();
        let count = "SELECT count(*) FROM v_event WHERE kind = 'train_use'";
        let written: i64 = other.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(u64::try_from(written).unwrap(), sent, "nothing durable is lost");
    }

    /// The flush comes in a later batch than the record that cannot be written: a number that is missing is refused.
    #[tokio::test]
    async fn l1_a_flush_is_denied_after_a_record_that_could_not_be_written_in_an_earlier_batch() {
        let folder = tempfile::tempdir().unwrap();
        let (recorder, thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
        let item = Record::Item(demask_storage::EvalItem {
            run: "r".into(),
            step: 1,
            suite: "s".into(),
            number: 0,
            item: "i".into(),
            category: String::new(),
            counted: true,
            prompt: String::new(),
            picture: None,
            output: String::new(),
            drawn: None,
            answer: String::new(),
            reference: String::new(),
            credit: 1.0,
            tokens: 1,
            forwards: 1,
            seconds: f64::NAN,
        });
        recorder.record(item).await.unwrap();
        for step in 1..BATCH as u64 {
            recorder.record(used(step)).await.unwrap();
        }
        recorder.settle().await.unwrap();
        let told = recorder.flush().await;
        assert!(
            matches!(told, Err(NotRecorded::Impossible(_))),
            "it was told that all is written: {told:?}"
        );
        recorder.record(used(0)).await.unwrap();
        recorder.flush().await.unwrap();
        drop(recorder);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn l1_durable_records_arrive_once_in_order_under_pressure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let (recorder, thread) = Recorder::start(&path).unwrap();
        let mut watch = recorder.watch();
        for step in 0..3000 {
            recorder.record(used(step)).await.unwrap();
            recorder.offer(metric(step));
        }
        recorder.flush().await.unwrap();
        let first = watch.recv().await;
        assert!(first.is_ok() || matches!(first, Err(broadcast::error::RecvError::Lagged(_))));
        drop(recorder);
        thread.join().unwrap();
        let store = demask_storage::store::open_read_only(&path).unwrap();
        let steps: Vec<u64> = events_since(&store, 0, 10_000)
            .unwrap()
            .into_iter()
            .filter_map(|e| {
                if let Record::TrainUse(u) = e.record {
                    Some(u.step)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(steps, (0..3000).collect::<Vec<_>>());
    }
}
