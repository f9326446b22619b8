//! Work that may wait for the disk, away from the event loop, so that a person's stop is taken within seconds even if
//! the disk does not answer (law L10).
//!
//! One thread answers every client and runs the actors. While it waits for a disk, nobody is answered. So whatever
//! writes, syncs, renames or removes files of the home, and whatever reads files that may not be in memory, goes through
//! [`on_disk`] or [`of_store`], or has a thread of its own:
//!
//! | what waits | where |
//! | --- | --- |
//! | commits, and the log's transfer into the database | the recorder's thread; an actor waits in `flush`, `settle` or `record_together` |
//! | lines of the daemon's log | a thread of its own (`log.rs`) |
//! | markers of checkpoints, with their sync; renamed and removed folders | `on_disk` (`run/checkpoints.rs`, `publication.rs`) |
//! | pictures and what is kept of items | `offload` |
//! | the journal, the queue, the checkpoints of a life | `of_store` (`daemon/`, `run/`, `pipeline/reasoner/`) |
//! | events that a client has missed; a query | `offload`; a process of its own |
//! | weights, with their sync | the engine's process, whose watchdog sees each piece of them (`engine/liveness.rs`) |
//!
//! An order to stop does not wait for any of these: it is in effect before its row is on the disk
//! (`control/pending_order.rs`, `daemon/front_desk/`). Commands that start, queue or resume a run do wait, beside the
//! loop that answers the others (`daemon/server/event_loop.rs`).
//!
//! Left on the loop: what happens before the socket is open; the system's own work when a process is started (its
//! program is read from the disk) and when a log that exists is opened for it; names of files whose folder is in memory;
//! `/proc`; sockets in the runtime folder, which is in memory on most systems.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_storage::StoreError;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::actor::{Cancelled, offload};
use super::fault_injection::wait_for_disk;

thread_local! {
    /// The work of this thread's tasks.
    static WORK: Arc<DiskWork> = Arc::default();
}

/// The work that was begun and has not ended.
#[derive(Debug, Default)]
struct DiskWork {
    /// When each piece was begun. Later pieces have higher numbers.
    begun: Mutex<BTreeMap<u64, Instant>>,
    ended: Notify,
}

impl DiskWork {
    fn begun(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of it, until this is dropped.
struct DiskTicket {
    work: Arc<DiskWork>,
    number: u64,
}

impl DiskTicket {
    fn take() -> Self {
        let work = WORK.with(Arc::clone);
        let number = {
            let mut begun = work.begun();
            let number = begun.last_key_value().map_or(0, |(last, _)| last + 1);
            begun.insert(number, Instant::now());
            number
        };
        Self { work, number }
    }
}

impl Drop for DiskTicket {
    fn drop(&mut self) {
        self.work.begun().remove(&self.number);
        self.work.ended.notify_waiters();
    }
}

/// Returns for how long the oldest work of this thread's tasks has been under way; `None` if there is none.
#[must_use]
pub fn under_way_for() -> Option<Duration> {
    let work = WORK.with(Arc::clone);
    let oldest = work.begun().first_key_value().map(|(_, &begun)| begun);
    oldest.map(|begun| begun.elapsed())
}

/// Waits until all work of this thread's tasks has ended. Who gives up waiting for work does not end it: it may remove or
/// rename a file when the disk answers again, so nothing that needs the file may begin before.
pub async fn settled() {
    let work = WORK.with(Arc::clone);
    loop {
        let ended = work.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if work.begun().is_empty() {
            return;
        }
        ended.await;
    }
}

/// Runs work that may wait for the disk on a thread of its own. It is done even if nobody waits for it any more.
///
/// # Errors
/// [`Cancelled`] when the program is ending.
///
/// # Panics
/// When `work` panics.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cancelled> {
    let ticket = DiskTicket::take();
    offload(move || {
        let _ticket = ticket;
        wait_for_disk();
        work()
    })
    .await
}

/// Reads from the store on a thread of its own.
///
/// # Errors
/// Any error of `read`; [`StoreError::Query`] when the program is ending.
///
/// # Panics
/// When `read` panics.
pub async fn of_store<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = on_disk(read).await;
    done.unwrap_or_else(|cancelled| Err(StoreError::Query(cancelled.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::task::Poll;

    #[tokio::test]
    async fn l1_work_that_was_given_up_is_waited_for_before_another_life_begins() {
        let (answering, answers) = channel::<()>();
        let (saying, said) = channel();
        let mut work = Box::pin(on_disk(move || {
            answers.recv().ok();
            saying.send("renamed").ok();
        }));
        assert_eq!(under_way_for(), None);
        assert!(poll_fn(|turn| Poll::Ready(work.as_mut().poll(turn).is_pending())).await);
        drop(work);
        assert!(under_way_for().is_some(), "the work goes on");
        let mut settling = Box::pin(settled());
        assert!(poll_fn(|turn| Poll::Ready(settling.as_mut().poll(turn).is_pending())).await);
        drop(answering);
        settling.await;
        assert_eq!(said.try_recv(), Ok("renamed"));
        settled().await;
        assert_eq!(under_way_for(), None);
    }
}
