//! The watchdog of an engine (law L10). While an answer is awaited, it asks for the engine's heartbeat on a connection
//! of its own.
//!
//! An engine that does not answer a heartbeat for a while is stopped or stuck. An engine that always answers with the
//! same count hangs in its work. The allowed time without progress is ten times the longest pause that the engine has
//! recovered from, with a lower bound. When the user wants the run to end, these limits become seconds, also while the
//! engine reads or writes files: it counts every tensor that it reads and every piece that it writes or flushes, so a
//! long save of a large model shows progress, and only one on a disk that does not answer shows none.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_api::{Answer, Request, wire};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::runtime::fault_injection::{FaultInjection, SeededBug};

/// Time between two heartbeats.
const LOOK: Duration = Duration::from_millis(500);
/// Lower bound of the allowed time without progress. One backward pass of a large model is one such pause.
const LEAST_SILENCE: Duration = Duration::from_secs(120);
/// Longest time without an answer. The thread that answers heartbeats computes nothing.
const LEAST_ANSWER: Duration = Duration::from_secs(30);
/// Both bounds when the user wants the run to end.
const URGENT: Duration = Duration::from_secs(3);
/// Factor by which a pause may exceed the longest one before.
const LONGER: u32 = 10;
/// The factor when the user wants the run to end.
const LONGER_URGENT: u32 = 2;

/// A flag that is set once the user wants the run to end.
#[derive(Clone, Debug, Default)]
pub struct Urgency(Arc<AtomicBool>);

impl Urgency {
    /// Sets the flag. From now on an engine that hangs is given up within seconds.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Returns whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Waits until a limit is over: the usual one, or the urgent one once the flag is set, also while this waits.
    pub(super) async fn limit(&self, usual: Duration, urgent: Duration) {
        let began = Instant::now();
        let limit = || if self.is_set() { urgent } else { usual };
        while began.elapsed() < limit() {
            sleep(LOOK).await;
        }
    }
}

/// The observations of an engine.
#[derive(Debug)]
struct Signs {
    /// Last heartbeat count; `None` before the first.
    beats: Option<u64>,
    /// Time at which the count last changed or the engine was idle.
    progress: Instant,
    /// Time of the last answer.
    answer: Instant,
    /// Time of the last heartbeat request.
    asked: Instant,
    /// Longest time between two changes of the count while the engine was busy.
    longest: Duration,
    /// Number of requests that wait for an answer and watch the engine meanwhile.
    watching: usize,
    /// Whether nobody watched at some moment since the last heartbeat. Such a time without progress is no pause.
    unwatched: bool,
}

/// The watchdog of one engine.
#[derive(Debug)]
pub struct Liveness {
    socket: PathBuf,
    /// Process id, where it is known.
    pid: Option<u32>,
    urgency: Urgency,
    signs: Mutex<Signs>,
    line: tokio::sync::Mutex<Option<UnixStream>>,
    faults: FaultInjection,
}

/// A note that a request watches the engine. Its drop takes the note back.
struct Watching<'a>(&'a Liveness);

impl<'a> Watching<'a> {
    fn begin(liveness: &'a Liveness) -> Self {
        liveness.signs().watching += 1;
        Self(liveness)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let mut signs = self.0.signs();
        signs.watching -= 1;
        signs.unwatched |= signs.watching == 0;
    }
}

impl Liveness {
    /// Makes a watchdog of the engine that serves this socket as this process.
    #[must_use]
    pub fn new(socket: PathBuf, pid: Option<u32>, urgency: Urgency) -> Self {
        Self {
            socket,
            pid,
            urgency,
            signs: Mutex::new(Signs::new(Instant::now())),
            line: tokio::sync::Mutex::new(None),
            faults: FaultInjection::default(),
        }
    }

    /// Adds a deliberate bug, which a simulation must find.
    #[must_use]
    pub fn with_faults(self, faults: FaultInjection) -> Self {
        Self { faults, ..self }
    }

    /// Returns the flag that the user wants the run to end.
    #[must_use]
    pub fn urgency(&self) -> &Urgency {
        &self.urgency
    }

    /// Returns once the engine hangs, with the evidence. It never returns while the engine makes progress, so a caller
    /// runs it beside the wait for a long answer.
    pub async fn hangs(&self) -> String {
        let _watching = Watching::begin(self);
        {
            let (now, mut signs) = (Instant::now(), self.signs());
            // Nobody asked for heartbeats before this request, so the time since then is not a pause.
            if now - signs.asked > LOOK * 4 {
                (signs.progress, signs.answer) = (now, now);
            }
        }
        loop {
            sleep(LOOK).await;
            if self.urgency.is_set() && self.pid.is_some_and(is_stopped) {
                return "its process is suspended, so the engine was abandoned".into();
            }
            self.look().await;
            if let Some(why) = self.signs().hung(self.urgency.is_set(), Instant::now()) {
                return why;
            }
        }
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a heartbeat, unless another waiting request has just done so.
    async fn look(&self) {
        let mut line = self.line.lock().await;
        if self.signs().asked.elapsed() < LOOK / 2 {
            return;
        }
        // The limit is not overstepped for one more heartbeat, but even who has not looked for long waits for one.
        let rest = unanswered(self.urgency.is_set()).saturating_sub(self.signs().answer.elapsed());
        let heard = timeout(rest.clamp(LOOK, URGENT / 2), beat(&mut line, &self.socket)).await;
        let now = Instant::now();
        let mut signs = self.signs();
        let before = std::mem::replace(&mut signs.asked, now);
        match heard {
            Ok(Ok(Some((beats, busy)))) => {
                signs.hear(beats, busy, now, before);
                if self.faults.has(SeededBug::AnyHeartbeat) {
                    signs.progress = now;
                }
            }
            // Another answer means that it serves too many clients; it is alive.
            Ok(Ok(None)) => signs.answer = now,
            Ok(Err(_)) | Err(_) => *line = None,
        }
    }
}

/// Returns the time without an answer after which an engine is given up.
fn unanswered(urgent: bool) -> Duration {
    if urgent { URGENT } else { LEAST_ANSWER }
}

/// Returns whether a process is stopped, as SIGSTOP or a terminal does it.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the process name, which may contain any character.
    stat.rsplit(") ")
        .next()
        .is_some_and(|after| after.starts_with(['T', 't']))
}

async fn beat(line: &mut Option<UnixStream>, socket: &PathBuf) -> std::io::Result<Option<(u64, bool)>> {
    let mut stream = match line.take() {
        Some(stream) => stream,
        None => UnixStream::connect(socket).await?,
    };
    wire::write_async(&mut stream, &Request::Heartbeat).await?;
    let answer = wire::read_async::<Answer>(&mut stream).await?;
    Ok(match answer {
        Some(Answer::Heartbeat { beats, busy }) => {
            *line = Some(stream);
            Some((beats, busy))
        }
        _ => None,
    })
}

impl Signs {
    /// Makes the observations of an engine that was reached at this moment.
    fn new(now: Instant) -> Self {
        Self {
            beats: None,
            progress: now,
            answer: now,
            asked: now,
            longest: Duration::ZERO,
            watching: 0,
            unwatched: false,
        }
    }

    /// Notes a heartbeat. The heartbeat before was asked for at `before`.
    fn hear(&mut self, beats: u64, busy: bool, now: Instant, before: Instant) {
        self.answer = now;
        if self.beats.replace(beats) != Some(beats) || !busy {
            if busy {
                // What was watched of the pause is one.
                let watched = if self.unwatched { before } else { now };
                self.longest = self.longest.max(watched.saturating_duration_since(self.progress));
            }
            self.progress = now;
        }
        self.unwatched = false;
    }

    /// Returns the evidence that the engine hangs, or `None`.
    fn hung(&self, urgent: bool, now: Instant) -> Option<String> {
        let (least, times) = if urgent {
            (URGENT, LONGER_URGENT)
        } else {
            (LEAST_SILENCE, LONGER)
        };
        let (silent, idle) = (now - self.answer, now - self.progress);
        if silent >= unanswered(urgent) {
            return Some(format!(
                "it has not answered for {:.0} s (its process may be suspended, or its machine cut off), so it was abandoned",
                silent.as_secs_f64()
            ));
        }
        let limit = least.max(self.longest * times);
        (idle >= limit).then(|| {
            format!(
                "its work has made no progress for {:.0} s (limit {:.0} s), so it was abandoned",
                idle.as_secs_f64(),
                limit.as_secs_f64()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Makes observations that begin at a start time, and a function that returns the time this many seconds later.
    fn signs() -> (Signs, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        (Signs::new(start), at)
    }

    /// Notes a heartbeat that was asked for a second after the one before.
    fn hear(signs: &mut Signs, beats: u64, busy: bool, now: Instant) {
        signs.hear(beats, busy, now, now - Duration::from_secs(1));
    }

    #[test]
    fn l10_work_that_shows_nothing_is_given_up_after_a_limit_that_grows_with_what_it_came_out_of() {
        let (mut signs, at) = signs();
        for second in 1..120 {
            hear(&mut signs, 7, true, at(second));
            assert_eq!(signs.hung(false, at(second)), None, "{second}");
        }
        hear(&mut signs, 7, true, at(121));
        let why = signs.hung(false, at(121)).unwrap();
        assert!(why.contains("has made no progress for 120 s"), "{why}");
        // The engine recovers. From now on ten times that pause is allowed, or twice if the user waits.
        for second in (122..1300).step_by(10) {
            hear(&mut signs, 8, true, at(second));
            assert_eq!(signs.hung(false, at(second)), None, "{second}");
        }
        assert!(signs.hung(true, at(1292)).is_some());
        hear(&mut signs, 8, true, at(1340));
        assert!(signs.hung(false, at(1340)).is_some());
    }

    #[test]
    fn l10_who_does_not_answer_is_given_up_and_within_seconds_where_a_person_waits() {
        let (mut signs, at) = signs();
        hear(&mut signs, 1, true, at(10));
        assert_eq!(
            (signs.hung(false, at(39)), signs.hung(true, at(12))),
            (None, None)
        );
        assert!(
            signs
                .hung(false, at(40))
                .unwrap()
                .contains("has not answered for 30 s")
        );
        assert!(signs.hung(true, at(13)).is_some());
    }

    /// Otherwise a short rest between two requests would be taken for a pause, and a stop would wait for twice as long.
    #[test]
    fn l10_a_time_in_which_nobody_watched_is_no_pause_that_the_engine_came_out_of() {
        let (mut signs, at) = signs();
        hear(&mut signs, 1, true, at(1));
        signs.unwatched = true;
        hear(&mut signs, 2, true, at(3));
        assert_eq!(signs.longest, Duration::from_secs(1));
        hear(&mut signs, 3, true, at(6));
        assert_eq!(signs.longest, Duration::from_secs(3));
        // One request took the place of another while the engine was in a pause that was watched before.
        signs.unwatched = true;
        hear(&mut signs, 4, true, at(26));
        assert_eq!(signs.longest, Duration::from_secs(19));
    }

    #[test]
    fn l10_who_has_nothing_to_do_does_not_hang() {
        let (mut signs, at) = signs();
        for second in 0..4000 {
            hear(&mut signs, 3, false, at(second));
            assert_eq!(
                (signs.hung(false, at(second)), signs.hung(true, at(second))),
                (None, None)
            );
        }
    }
}
