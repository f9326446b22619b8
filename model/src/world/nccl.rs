//! What a group over NCCL needs besides its calls: settings of libtorch, and a watch that ends this process with our
//! exit code if a call is not done in time.
//!
//! By default libtorch watches NCCL's calls itself (`ProcessGroupNCCL.cpp` of 2.11). Its watchdog thread throws when a
//! call has failed or is late, which ends the process by SIGABRT; whoever started the ranks takes that for the rank's own
//! fault. Before, it sleeps for a minute and a monitor thread writes a record of the calls, so the end comes long after
//! the time limit; and while the host is in `ncclCommInitRank`, nothing is watched. With `TORCH_NCCL_BLOCKING_WAIT` none
//! of these threads is started, and nothing in libtorch ends the process. That setting also makes `Work::wait` wait on
//! the host, which our calls never do: the stream waits (`finish` in `csrc/world.cpp`).
//!
//! The watch has two threads. One asks CUDA which calls are done, and NCCL whether the communicator has failed; both may
//! hang, if the device does. The other thread asks neither. It knows only which call is the first that is not known to
//! be done, and leaves the world if that is the same one for longer than the call's time limit. The time of a call
//! begins when all calls before it are done, because a call may wait in a queue behind one that is allowed to take long
//! ([`World::patiently`](super::World::patiently)).

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ffi::{Object, call};
use super::store::millis;
use crate::error::{ModelError, Result};

/// The variables that libtorch reads when it makes a group over NCCL. Other values would end ranks in other ways, so
/// they are set whatever the environment says. The second one leaves out the record of the calls, which nobody writes
/// to a file without the monitor thread.
const SETTINGS: [(&str, &str); 2] = [("TORCH_NCCL_BLOCKING_WAIT", "1"), ("TORCH_FR_BUFFER_SIZE", "0")];
/// Time between two looks whether calls are done, as libtorch's watchdog has it.
const ASK: Duration = Duration::from_millis(100);
/// Time between two looks at the first call.
const LOOK: Duration = Duration::from_millis(250);
/// How long the end of the threads is waited for. One that asks a broken device may never end.
const PARTING: Duration = Duration::from_secs(1);
/// What an error of NCCL says if this rank's own device has failed. The thread that computes meets that error too, and
/// the exit code then says that the fault is the rank's own.
const OWN_FAULT: &str = "cuda error";

/// Sets the variables for groups over NCCL. Call this before any group is made.
pub(super) fn set_variables() {
    for (name, value) in SETTINGS {
        // SAFETY: the groups' threads, which are the only ones to read these variables outside Rust, do not exist yet;
        // Rust's readers take the lock that `set_var` takes.
        unsafe { std::env::set_var(name, value) };
    }
}

/// The watch over the calls of a group. It ends when this value is dropped, which must happen before the group's end.
#[derive(Debug)]
pub(super) struct CallWatch {
    /// Closed at the end; nothing is ever sent.
    ends: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl CallWatch {
    /// Begins to watch a group's calls, with a time limit for each. `lost` is called with the reason, from another thread
    /// and possibly twice, if a call is late or the communicator has failed.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the system starts no thread.
    pub fn begin<F>(group: Object, limit: Duration, lost: F) -> Result<Self>
    where
        F: Fn(String) + Clone + Send + 'static,
    {
        let mut handle = std::ptr::null_mut();
        call!(demask_group_watch(group, millis(limit), &mut handle))?;
        let calls = Arc::new(WatchedCalls(handle));
        let mut watch = Self {
            ends: Vec::new(),
            threads: Vec::new(),
        };
        let (asked, says) = (Arc::clone(&calls), lost.clone());
        watch.start("nccl-ask", ASK, move |_| match asked.look() {
            Err(error) if !error.to_string().to_lowercase().contains(OWN_FAULT) => {
                says(error.to_string());
                false
            }
            _ => true,
        })?;
        let mut wait = FirstCall::default();
        watch.start("nccl-watch", LOOK, move |passed| {
            let (first, limit) = calls.first();
            let is_late = wait.is_late((first, limit), passed);
            if is_late {
                lost(late(limit));
            }
            !is_late
        })?;
        Ok(watch)
    }

    /// Starts a thread that looks once every `pause` as long as `look`, which is given the time since it looked last,
    /// returns true.
    fn start(
        &mut self,
        name: &str,
        pause: Duration,
        mut look: impl FnMut(Duration) -> bool + Send + 'static,
    ) -> Result<()> {
        let (end, ended) = channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut last = Instant::now();
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if !look(now - last) {
                    return;
                }
                last = now;
            }
        });
        let no_thread = |error| ModelError::World(format!("a thread that watches NCCL: {error}"));
        self.threads.push(thread.map_err(no_thread)?);
        self.ends.push(end);
        Ok(())
    }
}

impl Drop for CallWatch {
    fn drop(&mut self) {
        self.ends.clear();
        let until = Instant::now() + PARTING;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                thread.join().ok();
            }
        }
    }
}

/// Says that a call is late.
fn late(limit: Duration) -> String {
    format!(
        "a call between the ranks was not done on the GPU within {:.0} s; a peer is gone, suspended or far behind",
        limit.as_secs_f64()
    )
}

/// The calls of a group that are not known to be done, on the C++ side.
#[derive(Debug)]
struct WatchedCalls(Object);

// SAFETY: the C++ side locks itself, and only this value drops the handle.
unsafe impl Send for WatchedCalls {}
// SAFETY: as above.
unsafe impl Sync for WatchedCalls {}

impl WatchedCalls {
    /// Returns the number of the first call, 0 if there is none, and its time limit.
    #[cfg(fused)]
    fn first(&self) -> (i64, Duration) {
        let (mut number, mut ms) = (0, 0);
        // SAFETY: the handle is live, and the pointers are to two numbers.
        unsafe {
            super::ffi::names::demask_watch_first(self.0, &mut number, &mut ms);
        }
        (number, Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }

    #[cfg(not(fused))]
    fn first(&self) -> (i64, Duration) {
        (0, Duration::ZERO)
    }

    /// Forgets the calls that are done.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the communicator has failed.
    fn look(&self) -> Result<()> {
        call!(demask_watch_look(self.0))?;
        Ok(())
    }
}

impl Drop for WatchedCalls {
    fn drop(&mut self) {
        #[cfg(fused)]
        // SAFETY: this value owns the handle, which is not used again.
        unsafe {
            super::ffi::names::demask_watch_drop(self.0);
        }
    }
}

/// For how long the same call has been the first.
#[derive(Debug, Default)]
struct FirstCall {
    number: i64,
    waited: Duration,
}

impl FirstCall {
    /// Returns whether the first call has been the first for its time limit. `passed` is the time since the last look, of
    /// which a little more than a pause counts: a process that was suspended, or a machine that slept, is not a peer
    /// that hangs.
    fn is_late(&mut self, (number, limit): (i64, Duration), passed: Duration) -> bool {
        if number == 0 || number != self.number {
            *self = Self {
                number,
                waited: Duration::ZERO,
            };
            return false;
        }
        self.waited += passed.min(2 * LOOK);
        self.waited >= limit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_call_is_late_when_it_was_the_first_for_its_limit() {
        let (mut first, limit) = (FirstCall::default(), Duration::from_secs(1));
        // The looks are a quarter of a second apart, and the first one only begins the time.
        let looks: Vec<bool> = (0..5).map(|_| first.is_late((1, limit), LOOK)).collect();
        assert_eq!(looks, [false, false, false, false, true]);
        // Each next call has a time of its own, and none passes without a call.
        for number in [2, 3, 0, 0, 0, 0, 0, 0, 4] {
            assert!(!first.is_late((number, limit), LOOK), "{number}");
        }
    }

    #[test]
    fn a_pause_of_this_process_is_not_counted_as_silence() {
        let (mut first, limit) = (FirstCall::default(), Duration::from_secs(120));
        for _ in 0..100 {
            assert!(!first.is_late((1, limit), Duration::from_secs(3600)));
        }
    }
}
