//! A watchdog for the daemon's event loop (law L10): while one task computes on the loop, no client and no actor is
//! answered, so long computations raise an alert.
//!
//! A task on the loop sends a beat; a separate thread checks whether the beat is late. Wall-clock time would be the
//! wrong measure: on a busy machine every beat is late, and no code is to blame. The watchdog therefore measures the
//! processor time that the loop's thread has used since its last beat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use demask_storage::{ActorState, Alert, Level, Record};

use super::log;
use super::probe::Roster;
use super::recorder::Recorder;

/// Environment variable. With the value `fatal`, a daemon whose loop is late exits at once; tests use it.
pub const LATE_LOOP: &str = "DEMASK_LATE_LOOP";
/// Time between two beats.
const BEAT: Duration = Duration::from_millis(25);
/// Time between two checks.
const LOOK: Duration = Duration::from_millis(25);
/// Processor time between two beats from which an alert is raised.
const LATE: Duration = Duration::from_millis(200);
/// Most alerts of one daemon. A loop that is late repeatedly is usually late for one reason.
const TELLINGS: u32 = 20;
/// Exit code when [`LATE_LOOP`] is `fatal`.
const EXIT: i32 = 86;

/// The state that the loop's task shares with the checking thread.
#[derive(Debug)]
struct Pulse {
    beats: AtomicU64,
    /// Processor time in nanoseconds that the loop's thread had used at the last beat.
    worked: AtomicU64,
    over: AtomicBool,
}

/// A watchdog for the loop of the thread that created it. It ends when it is dropped.
#[derive(Debug)]
pub struct LoopWatch {
    pulse: Arc<Pulse>,
    beating: tokio::task::JoinHandle<()>,
}

impl LoopWatch {
    /// Starts to watch the loop of this thread. `None` where the system cannot report a thread's processor time.
    #[must_use]
    pub fn begin(recorder: Recorder, roster: Roster) -> Option<Self> {
        let clock = clock::of_this_thread()?;
        let pulse = Arc::new(Pulse {
            beats: AtomicU64::new(0),
            worked: AtomicU64::new(clock::read(clock)?),
            over: AtomicBool::new(false),
        });
        let watched = Arc::clone(&pulse);
        let looking = move || look(&watched, clock, &recorder, &roster);
        std::thread::Builder::new()
            .name("loop-watch".into())
            .spawn(looking)
            .ok()?;
        let own = Arc::clone(&pulse);
        let beating = actix::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                own.worked.store(clock::read(clock).unwrap_or(0), SeqCst);
                own.beats.fetch_add(1, SeqCst);
            }
        });
        Some(Self { pulse, beating })
    }
}

impl Drop for LoopWatch {
    fn drop(&mut self) {
        self.pulse.over.store(true, SeqCst);
        self.beating.abort();
    }
}

fn look(pulse: &Pulse, clock: clock::ThreadClock, recorder: &Recorder, roster: &Roster) {
    let fatal = std::env::var(LATE_LOOP).is_ok_and(|value| value == "fatal");
    let (mut told, mut tellings) = (None, 0);
    while !pulse.over.load(SeqCst) {
        std::thread::sleep(LOOK);
        let beats = pulse.beats.load(SeqCst);
        let before = pulse.worked.load(SeqCst);
        // The loop's thread may have ended.
        let Some(now) = clock::read(clock).filter(|_| !pulse.over.load(SeqCst)) else {
            return;
        };
        let worked = Duration::from_nanos(now.saturating_sub(before));
        // Skip if the loop was not late, has sent a beat meanwhile, or this lateness was reported already.
        if worked < LATE || beats != pulse.beats.load(SeqCst) || told == Some(beats) || tellings == TELLINGS {
            continue;
        }
        (told, tellings) = (Some(beats), tellings + 1);
        let message = format!(
            "the daemon's event loop was blocked by {} ms of work; active: {}",
            worked.as_millis(),
            under_way(roster)
        );
        if fatal {
            tracing::error!("{message}");
            log::flush();
            std::process::exit(EXIT);
        }
        let (run, kind) = (String::new(), "late_loop".to_owned());
        recorder.offer(Record::Alert(Alert {
            run,
            step: 0,
            level: Level::Warn,
            kind,
            message,
        }));
    }
}

/// Names the busy actors, each with the message that it handles.
fn under_way(roster: &Roster) -> String {
    let views = roster.views();
    let busy = views.iter().filter(|view| view.state == ActorState::Busy);
    let said: Vec<String> = busy
        .map(|view| format!("{} ({})", view.name, view.last_message))
        .collect();
    if said.is_empty() {
        "no actor's message".to_owned()
    } else {
        said.join(", ")
    }
}

#[cfg(target_os = "linux")]
mod clock {
    /// A clock that measures the processor time of one thread.
    pub type ThreadClock = libc::clockid_t;

    /// Returns the clock of the calling thread. Any thread may read it while the calling thread lives.
    pub fn of_this_thread() -> Option<ThreadClock> {
        let mut clock = 0;
        // SAFETY: the calling thread is alive, and the call only fills in a number.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        (failed == 0).then_some(clock)
    }

    /// Reads the clock in nanoseconds.
    pub fn read(clock: ThreadClock) -> Option<u64> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call fills in a plain struct, and returns an error for a clock whose thread has ended.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return None;
        }
        Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    /// A placeholder: this system offers no clock of a thread's processor time.
    pub type ThreadClock = ();

    pub fn of_this_thread() -> Option<ThreadClock> {
        None
    }

    pub fn read((): ThreadClock) -> Option<u64> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Computes on the calling thread until it has used this much processor time.
    fn work(time: Duration) {
        let own = clock::of_this_thread().unwrap();
        let begun = clock::read(own).unwrap();
        while Duration::from_nanos(clock::read(own).unwrap() - begun) < time {
            std::hint::black_box((0..1000).sum::<u64>());
        }
    }

    #[test]
    fn l10_work_on_the_loop_is_told_with_who_does_it_and_waiting_is_not() {
        let folder = tempfile::tempdir().unwrap();
        actix::System::new().block_on(async {
            let (recorder, _thread) = Recorder::start(&folder.path().join("d.db")).unwrap();
            let roster = Roster::default();
            let mut events = recorder.watch();
            let probe = roster.add("curator", "");
            let _watch = LoopWatch::begin(recorder.clone(), roster).unwrap();
            tokio::time::sleep(BEAT * 2).await;
            // Waiting uses no processor time: here the thread sleeps, as a thread does that the system does not
            // schedule.
            std::thread::sleep(LATE * 2);
            recorder.flush().await.unwrap();
            assert!(events.try_recv().is_err(), "nothing was told");
            let handling = probe.handle("Take");
            // The checking thread needs one check after the work became too long.
            let told = loop {
                work(LATE * 2);
                tokio::time::sleep(BEAT).await;
                recorder.flush().await.unwrap();
                if let Ok(told) = events.try_recv() {
                    break told;
                }
            };
            drop(handling);
            let Record::Alert(alert) = told.record else {
                panic!("{told:?}")
            };
            assert!(
                alert.kind == "late_loop" && alert.message.contains("curator (Take)"),
                "{alert:?}"
            );
        });
    }
}
