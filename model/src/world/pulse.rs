//! Signs of life of rank 0, in the world's store, for ranks that wait for its orders.
//!
//! A rank that waits for an order makes no collective call, so no time limit of c10d applies to it. Rank 0 may also
//! sample for hours without an order. Therefore a thread of rank 0 counts in the store. The other ranks give the world
//! up if the count stands still, or if the store itself does not answer because rank 0 serves it and is suspended.
//!
//! Silence is counted in looks as well as in time. A pause of all ranks together, such as a container that is frozen,
//! is one look for each of them, and the count goes on after it.
//!
//! Not here: ranks that meet in a file. They are on one machine, and the process that started them sees them.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::exit::{PEER_LOST, leave};
use super::store::Store;
use crate::error::{ModelError, Result};

/// The key of the count.
const COUNT: &str = "count";
/// The longest time between two looks at the count.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest time between two counts. It is short, so that ranks with a shorter limit than rank 0 see them.
const LONGEST_BEAT: Duration = Duration::from_secs(1);

/// Returns the time between two looks of ranks that wait no longer than `limit`.
pub(super) fn pause(limit: Duration) -> Duration {
    (limit / 4).min(LONGEST_PAUSE)
}

/// Returns the number of looks, one every [`pause`], that take as long as `limit`.
fn looks(limit: Duration) -> u32 {
    (limit.as_secs_f64() / pause(limit).as_secs_f64()).ceil() as u32
}

/// The counting thread of rank 0. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct RankPulse {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RankPulse {
    /// Starts the thread for ranks that wait no longer than `limit`.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the system starts no thread.
    pub fn begin(store: Store, limit: Duration) -> Result<Self> {
        let (end, ended) = channel::<()>();
        let beat = pause(limit).min(LONGEST_BEAT);
        let thread = thread::Builder::new().name("pulse".to_owned()).spawn(move || {
            // Nothing is ever sent on this channel. It closes at the end of the world.
            while store.add(COUNT, 1).is_ok() {
                if ended.recv_timeout(beat) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Ok(Self {
            end: Some(end),
            thread: Some(thread.map_err(|error| no_thread(&error))?),
        })
    }
}

impl Drop for RankPulse {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What a rank that waits for an order has seen of rank 0.
#[derive(Debug)]
pub(super) struct PulseWatch {
    store: Store,
    limit: Duration,
    count: i64,
    /// Time at which the count last changed.
    changed: Instant,
    /// Number of looks since then.
    still: u32,
    /// Tells the thread that watches the store that the store has answered.
    answered: Sender<()>,
}

impl PulseWatch {
    /// Begins to watch. From now on the process leaves the world if [`Self::look`] is not called for a little longer
    /// than `limit`, because the store then does not answer.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the system starts no thread.
    pub fn begin(store: Store, limit: Duration) -> Result<Self> {
        let (answered, heard) = channel::<()>();
        let (pause, most) = (pause(limit), looks(limit) + 1);
        let watching = thread::Builder::new()
            .name("pulse-watch".to_owned())
            .spawn(move || {
                let mut silence = 0;
                while silence < most {
                    match heard.recv_timeout(pause) {
                        Ok(()) => silence = 0,
                        Err(RecvTimeoutError::Timeout) => silence += 1,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                leave(PEER_LOST, &silent("the store", pause * most));
            });
        watching.map_err(|error| no_thread(&error))?;
        Ok(Self {
            store,
            limit,
            count: 0,
            changed: Instant::now(),
            still: 0,
            answered,
        })
    }

    /// Looks at the count. Call it at least once every [`pause`].
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the count has not changed for longer than the limit, or if the store is gone.
    pub fn look(&mut self) -> Result<()> {
        self.answered.send(()).ok();
        let count = self.store.add(COUNT, 0)?;
        self.answered.send(()).ok();
        if count == self.count {
            self.still += 1;
        } else {
            (self.count, self.changed, self.still) = (count, Instant::now(), 0);
        }
        if self.still >= looks(self.limit) && self.changed.elapsed() >= self.limit {
            return Err(ModelError::World(silent("rank 0", self.limit)));
        }
        Ok(())
    }
}

/// The thread of a rank that watches for rank 0's signs of life while the rank makes a call with a longer limit. It ends
/// when this value is dropped.
#[derive(Debug)]
pub(super) struct PulseVigil {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PulseVigil {
    /// Begins to watch. The process leaves the world if rank 0 shows no sign of life for longer than `limit`, or if the
    /// store is gone.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the system starts no thread.
    pub fn begin(store: Store, limit: Duration) -> Result<Self> {
        let mut watch = PulseWatch::begin(store, limit)?;
        let (end, ended) = channel::<()>();
        let looking = thread::Builder::new()
            .name("pulse-vigil".to_owned())
            .spawn(move || {
                // Nothing is ever sent on this channel. It closes at the end of the call.
                while ended.recv_timeout(pause(limit)) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = watch.look() {
                        leave(PEER_LOST, &error);
                    }
                }
            });
        Ok(Self {
            end: Some(end),
            thread: Some(looking.map_err(|error| no_thread(&error))?),
        })
    }
}

impl Drop for PulseVigil {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Says who has shown no sign of life.
fn silent(who: &str, limit: Duration) -> String {
    let seconds = limit.as_secs_f64();
    format!(
        "{who} has shown no sign of life for {seconds:.0} s (its process may be suspended, or its machine cut off)"
    )
}

fn no_thread(error: &std::io::Error) -> ModelError {
    ModelError::World(format!("a thread for signs of life: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_several_looks_that_take_as_long_as_the_limit() {
        for (limit, expected) in [(1, 4), (6, 4), (40, 4), (45, 5), (120, 12), (86_400, 8_640)] {
            let limit = Duration::from_secs(limit);
            assert_eq!(looks(limit), expected, "{limit:?}");
            assert!(pause(limit) * looks(limit) >= limit, "{limit:?}");
        }
    }
}
