//! Whether an engine gets on (law L10): while an answer is waited for, its heartbeat is asked for on a connection of its own.
//!
//! An engine that does not answer that for a while is stopped or stuck; one that answers always the same hangs in its work. How
//! long its work may show nothing is learnt from the longest silence that it came out of, with a floor. When a person wants the
//! run to end, nothing that hangs is waited for longer than seconds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_api::{Answer, Request, wire};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Least time that work may show nothing: a step of a large model's backward pass is one silence.
const LEAST_SILENCE: Duration = Duration::from_secs(120);
/// Time that the thread which answers may be silent: it computes nothing.
const LEAST_ANSWER: Duration = Duration::from_secs(30);
/// The same when a person wants the run to end.
const URGENT: Duration = Duration::from_secs(3);
/// By how much a silence may be longer than the longest before.
const LONGER: u32 = 10;
/// The same when a person wants the run to end.
const LONGER_URGENT: u32 = 2;

/// Set once a person wants the run to end.
#[derive(Clone, Debug, Default)]
pub struct Urgency(Arc<AtomicBool>);

impl Urgency {
    /// From now on what hangs is waited for a few seconds only.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether a person wants the run to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What has been heard of an engine.
#[derive(Debug)]
struct Signs {
    /// The last count; none before the first.
    beats: Option<u64>,
    /// When the count last changed, or it had nothing to do.
    progress: Instant,
    /// When the engine last answered.
    answer: Instant,
    /// When it was last asked.
    asked: Instant,
    /// The longest time between two changes.
    longest: Duration,
}

/// Watches over one engine.
#[derive(Debug)]
pub struct Liveness {
    socket: PathBuf,
    /// Its process, where that is known.
    pid: Option<u32>,
    urgency: Urgency,
    signs: Mutex<Signs>,
    line: tokio::sync::Mutex<Option<UnixStream>>,
}

impl Liveness {
    /// Of the engine that serves this socket as this process.
    #[must_use]
    pub fn new(socket: PathBuf, pid: Option<u32>, urgency: Urgency) -> Self {
        Self {
            socket,
            pid,
            urgency,
            signs: Mutex::new(Signs::new(Instant::now())),
            line: tokio::sync::Mutex::new(None),
        }
    }

    /// Returns when the engine hangs, with how that was seen; never while it gets on. Whoever waits for an answer of hours lets this
    /// run beside it. What writes or reads a file is given its time, urgent or not, unless its process is stopped.
    pub async fn hangs(&self, request: &Request) -> String {
        let patient = matches!(request, Request::Save { .. } | Request::Load { .. });
        {
            let (now, mut signs) = (Instant::now(), self.signs());
            // Before this nobody has asked: what was not looked at is no silence.
            if now - signs.asked > LOOK * 4 {
                (signs.progress, signs.answer) = (now, now);
            }
        }
        loop {
            sleep(LOOK).await;
            // It will not write or read either, whatever it was asked.
            if self.urgency.is_set() && self.pid.is_some_and(is_stopped) {
                return "its process is stopped and was given up".into();
            }
            self.look().await;
            if let Some(why) = self
                .signs()
                .hung(self.urgency.is_set() && !patient, Instant::now())
            {
                return why;
            }
        }
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the heartbeat, unless somebody else just did.
    async fn look(&self) {
        let mut line = self.line.lock().await;
        if self.signs().asked.elapsed() < LOOK / 2 {
            return;
        }
        let heard = timeout(URGENT / 2, beat(&mut line, &self.socket)).await;
        let now = Instant::now();
        let mut signs = self.signs();
        signs.asked = now;
        match heard {
            Ok(Ok(Some((beats, busy)))) => signs.hear(beats, busy, now),
            // It answered something else: it serves too many clients, and lives.
            Ok(Ok(None)) => signs.answer = now,
            Ok(Err(_)) | Err(_) => *line = None,
        }
    }
}

/// Whether a process is stopped, as SIGSTOP and a terminal do it.
#[must_use]
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, comes the state.
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
    /// Of an engine that was reached just now.
    fn new(now: Instant) -> Self {
        Self {
            beats: None,
            progress: now,
            answer: now,
            asked: now,
            longest: Duration::ZERO,
        }
    }

    fn hear(&mut self, beats: u64, busy: bool, now: Instant) {
        self.answer = now;
        if self.beats.replace(beats) != Some(beats) || !busy {
            if busy {
                self.longest = self.longest.max(now - self.progress);
            }
            self.progress = now;
        }
    }

    /// Why it is taken to hang, if it is.
    fn hung(&self, urgent: bool, now: Instant) -> Option<String> {
        let (least, times) = if urgent {
            (URGENT, LONGER_URGENT)
        } else {
            (LEAST_SILENCE, LONGER)
        };
        let (silent, idle) = (now - self.answer, now - self.progress);
        let unanswered = if urgent { URGENT } else { LEAST_ANSWER };
        if silent >= unanswered {
            return Some(format!(
                "it has not answered for {:.0} s (is it stopped?) and was given up",
                silent.as_secs_f64()
            ));
        }
        let limit = least.max(self.longest * times);
        (idle >= limit).then(|| {
            format!(
                "its work has shown nothing for {:.0} s (limit {:.0} s) and was given up",
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

    /// Signs whose beginning is `start`, and that moment so many seconds later.
    fn signs() -> (Signs, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        (Signs::new(start), at)
    }

    #[test]
    fn l10_work_that_shows_nothing_is_given_up_after_a_limit_that_grows_with_what_it_came_out_of() {
        let (mut signs, at) = signs();
        for second in 1..120 {
            signs.hear(7, true, at(second));
            assert_eq!(signs.hung(false, at(second)), None, "{second}");
        }
        signs.hear(7, true, at(121));
        let why = signs.hung(false, at(121)).unwrap();
        assert!(why.contains("has shown nothing for 120 s"), "{why}");
        // It comes out of it: ten times that silence is allowed from now on, twice where a person waits.
        for second in (122..1300).step_by(10) {
            signs.hear(8, true, at(second));
            assert_eq!(signs.hung(false, at(second)), None, "{second}");
        }
        assert!(signs.hung(true, at(1292)).is_some());
        signs.hear(8, true, at(1340));
        assert!(signs.hung(false, at(1340)).is_some());
    }

    #[test]
    fn l10_who_does_not_answer_is_given_up_and_within_seconds_where_a_person_waits() {
        let (mut signs, at) = signs();
        signs.hear(1, true, at(10));
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

    #[test]
    fn l10_who_has_nothing_to_do_does_not_hang() {
        let (mut signs, at) = signs();
        for second in 0..4000 {
            signs.hear(3, false, at(second));
            assert_eq!(
                (signs.hung(false, at(second)), signs.hung(true, at(second))),
                (None, None)
            );
        }
    }
}
