//! The vital signs of a simulated engine behind a socket: what its heartbeats show, who waits for it, and how it ends
//! when it is killed. L10 is checked whenever it is: neither too early nor too late, and never while it makes progress.

use std::sync::Arc;
use std::time::Duration;

use demask_actors::engine::liveness::Urgency;
use demask_api::Answer;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::faults::Hang;
use crate::laboratory::{Hanging, SharedLaboratory};

/// The limits of the watchdog (`engine/liveness.rs`): without an answer, and without progress.
const SILENCE: Duration = Duration::from_secs(30);
const NO_PROGRESS: Duration = Duration::from_secs(120);
/// Both when the user wants the run to end.
const URGENT: Duration = Duration::from_secs(3);
/// Factors by which a pause may exceed the longest one before: usually, and when the user wants the run to end.
const LONGER: [u32; 2] = [10, 2];
/// How exactly the watchdog must know the longest pause.
const PRECISION: Duration = Duration::from_secs(2);
/// How exactly it must keep its limits.
const SLACK: Duration = Duration::from_secs(4);

/// How long a slow request takes; longer than one without progress may.
const SLOW: Duration = Duration::from_secs(200);
/// The two pauses of a request. The second one is longer than the usual limit, and shorter than ten times the first.
const PAUSES: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(150)];
/// The time of progress after a pause.
const BETWEEN: Duration = Duration::from_secs(2);
/// How long an engine goes on that is being killed.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How long the system takes to kill a process that is not to be killed at once.
const UNKILLABLE: Duration = Duration::from_secs(3);

/// A time in which the engine makes no progress.
#[derive(Clone, Copy, Debug)]
struct Stall {
    hang: Hang,
    since: Instant,
    /// Whether nobody waited for an answer at some moment of it.
    unwatched: bool,
}

/// The state of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct VitalState {
    beats: u64,
    /// Number of requests that are being executed or wait for their turn.
    busy: u32,
    stall: Option<Stall>,
    /// The longest stall that it came out of.
    longest: Duration,
    /// Number of requests for whose answers somebody waits.
    waiting: u32,
    waited_since: Option<Instant>,
    asked_to_exit: bool,
    killed: bool,
    /// The status with which it ended, as the system reports it.
    pub ended: Option<i32>,
}

impl VitalState {
    /// Returns whether nothing is computed.
    pub fn is_stuck(&self) -> bool {
        self.stall
            .is_some_and(|stall| !(self.killed && stall.hang.ends_when_killed()))
    }

    /// Returns whether nothing is read and answered.
    pub fn is_silent(&self) -> bool {
        self.is_stuck() && self.stall.is_some_and(|stall| stall.hang.is_silent())
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Returns whether a stop must get past it within seconds. An engine with a history of pauses is waited for longer.
    fn hangs(&self) -> bool {
        self.stall.is_some() && self.longest * LONGER[1] <= URGENT
    }
}

/// The vital signs of the process of a simulated engine.
pub struct Vitals {
    laboratory: SharedLaboratory,
    pub urgency: Urgency,
    state: watch::Sender<VitalState>,
}

impl Vitals {
    pub fn new(laboratory: &SharedLaboratory, urgency: Urgency) -> Arc<Self> {
        Arc::new(Self {
            laboratory: Arc::clone(laboratory),
            urgency,
            state: watch::Sender::new(VitalState::default()),
        })
    }

    /// Returns the present state.
    pub fn now(&self) -> VitalState {
        *self.state.borrow()
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, is_so: impl FnMut(&VitalState) -> bool) {
        let mut seen = self.state.subscribe();
        seen.wait_for(is_so).await.ok();
    }

    /// Answers a heartbeat. The count grows while the engine makes progress.
    pub fn heartbeat(&self) -> Answer {
        self.state.send_if_modified(|state| {
            state.beats += u64::from(state.stall.is_none());
            false
        });
        let state = self.now();
        Answer::Heartbeat {
            beats: state.beats,
            busy: state.busy > 0,
        }
    }

    /// Does what a fault says, and returns when the engine goes on.
    pub async fn stalls(&self, hang: Hang) {
        match hang {
            Hang::Slow => sleep(SLOW).await,
            Hang::Pauses => {
                for pause in PAUSES {
                    self.stall(hang);
                    sleep(pause).await;
                    self.state.send_modify(|state| {
                        let seen = state.stall.take().filter(|stall| !stall.unwatched);
                        state.longest = state
                            .longest
                            .max(seen.map_or(Duration::ZERO, |stall| stall.since.elapsed()));
                    });
                    sleep(BETWEEN).await;
                }
            }
            _ => {
                self.stall(hang);
                self.until(|state| !state.is_stuck()).await;
            }
        }
    }

    /// Begins a time without progress.
    pub fn stall(&self, hang: Hang) {
        self.state.send_modify(|state| {
            state.stall = Some(Stall {
                hang,
                since: Instant::now(),
                unwatched: state.waiting == 0,
            });
        });
    }

    /// Notes that the engine is asked to exit.
    pub fn asked_to_exit(&self) {
        self.state.send_modify(|state| state.asked_to_exit = true);
    }

    /// Ends the process, unless it has ended.
    pub fn end(&self, status: i32) {
        self.state.send_modify(|state| {
            state.ended.get_or_insert(status);
        });
    }

    /// Awaits an answer, with a note that the engine hangs while it does.
    pub async fn awaited<T>(&self, answer: impl Future<Output = T>) -> T {
        let _waits = Waits::begin(self);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = self.until(VitalState::hangs) => {}
            }
            let _noted = Hanging::note(&self.laboratory);
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = self.until(|state| !state.hangs()) => {}
            }
        }
    }

    /// Checks L1: an answer that is used does not come from an engine that was given up.
    pub fn check_used(&self) {
        if self.now().killed {
            self.breaks("L1: an answer of an engine that was given up is used");
        }
    }

    /// Checks L10: an engine that does not exit is killed.
    pub fn check_exit(&self) {
        let state = self.now();
        if !state.has_ended() && !state.killed {
            self.breaks("L10: an engine that does not exit is left alone");
        }
    }

    fn breaks(&self, violation: &str) {
        self.laboratory.lock().unwrap().breaks(violation.to_owned());
    }

    /// Has the system kill the process.
    pub fn kill(self: &Arc<Self>) {
        let state = self.now();
        if state.has_ended() || state.killed {
            return;
        }
        if let Some(violation) = judged(&state, self.urgency.is_set()) {
            self.breaks(&violation);
        }
        let hang = state.stall.map(|stall| stall.hang);
        let line = format!("the engine is killed, it does: {hang:?}");
        self.laboratory.lock().unwrap().log.push(line);
        self.state.send_modify(|state| state.killed = true);
        let lag = match hang {
            Some(hang) if hang.ends_when_killed() => LAST_BREATH,
            Some(Hang::Unkillable) => UNKILLABLE,
            _ => return self.end(libc::SIGKILL),
        };
        let process = Arc::clone(self);
        actix::spawn(async move {
            sleep(lag).await;
            process.end(libc::SIGKILL);
        });
    }
}

/// Checks L10 for a process that is killed at this moment: it makes no progress, and the watchdog has kept its limits.
/// Returns the violation.
fn judged(state: &VitalState, is_hurried: bool) -> Option<String> {
    if state.asked_to_exit {
        return None;
    }
    let Some(stall) = state.stall else {
        return Some("L10: an engine that makes progress is killed".into());
    };
    let idle = stall.since.elapsed();
    // Nobody watches an engine that nobody waits for, but the watchdog may not have noticed a short time without.
    let waited = state.waited_since.map_or(idle, |since| idle.min(since.elapsed()));
    let shortest = state.longest.saturating_sub(PRECISION);
    let (usual, most) = match stall.hang.is_silent() {
        true => (SILENCE, SILENCE),
        false => (
            NO_PROGRESS.max(shortest * LONGER[0]),
            NO_PROGRESS.max((state.longest + PRECISION) * LONGER[0]),
        ),
    };
    let is_urgent = is_hurried && state.waiting > 0;
    let least = match is_urgent {
        true if stall.hang.is_silent() => URGENT,
        true => URGENT.max(shortest * LONGER[1]),
        false => usual,
    };
    let is_kept = idle + SLACK >= least && waited <= most + SLACK;
    (!is_kept).then(|| {
        let hang = stall.hang;
        format!("L10: an engine ({hang:?}) is killed after {idle:?}, expected {least:?} to {most:?}")
    })
}

/// A note that somebody waits for an answer. Its drop takes the note back.
struct Waits<'a>(&'a Vitals);

impl<'a> Waits<'a> {
    fn begin(vitals: &'a Vitals) -> Self {
        vitals.state.send_modify(|state| {
            if state.waiting == 0 {
                state.waited_since = Some(Instant::now());
            }
            state.waiting += 1;
        });
        Self(vitals)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.waiting -= 1;
            if let Some(stall) = &mut state.stall {
                stall.unwatched |= state.waiting == 0;
            }
        });
    }
}

/// A note that a request is being executed or waits for its turn. Its drop takes the note back.
pub struct Busy<'a>(&'a Vitals);

impl<'a> Busy<'a> {
    pub fn begin(vitals: &'a Vitals) -> Self {
        vitals.state.send_modify(|state| {
            state.busy += 1;
            state.beats += u64::from(state.stall.is_none());
        });
        Self(vitals)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.busy -= 1;
            state.beats += 1;
        });
    }
}
