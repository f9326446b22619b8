//! The lobby: engines that have joined and wait for a run, and runs that wait for engines (law L10: what is waited for
//! is told, and the user can end the wait).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use demask_api::join::{Farewell, JoiningEngine, MOST_WAITING};
use demask_api::{JoinRole, PROTOCOL, Shard};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::session::{AwaitedLines, EngineSession, JoinConnection};
use crate::engine::liveness::Urgency;

/// Time between two checks whether the user wants the wait to end.
const LOOK: Duration = Duration::from_millis(200);

/// The engine that a run needs.
#[derive(Clone, Debug)]
pub struct WantedEngine {
    /// Whether the engine trains or only samples.
    pub role: JoinRole,
    /// The largest number of ranks of the engine's world.
    pub ranks: usize,
    /// The smallest number of ranks of its world.
    pub least_ranks: usize,
    /// What is sharded among these ranks.
    pub shard: Shard,
    /// Compute dtype: `auto`, `f32` or `bf16`.
    pub dtype: String,
}

impl WantedEngine {
    /// Returns the sizes of worlds that fit, in words.
    fn sizes(&self) -> String {
        match self.least_ranks < self.ranks {
            true => format!("{} to {} ranks", self.least_ranks, self.ranks),
            false => format!("{} ranks", self.ranks),
        }
    }

    /// Returns why an engine of the wanted role does not fit; `None` if it does.
    fn misfit(&self, found: &JoiningEngine) -> Option<String> {
        if found.ranks < self.least_ranks || found.ranks > self.ranks {
            let (wanted, found) = (self.sizes(), found.ranks);
            return Some(format!("the run needs {wanted}, but this world has {found}"));
        }
        if found.shard != self.shard {
            let wanted = self.shard;
            return Some(format!("the run needs --shard {wanted} on each rank"));
        }
        let wanted = match self.dtype.as_str() {
            "auto" => &found.auto_dtype,
            _ => &self.dtype,
        };
        (found.dtype != *wanted).then(|| {
            format!(
                "the run computes in {wanted} (`engine.dtype` is {}), but this engine computes in {}; start it with \
                 --dtype {wanted}",
                self.dtype, found.dtype
            )
        })
    }
}

/// The lobby of a daemon.
#[derive(Debug)]
pub struct Lobby {
    /// Path of the join file, for messages about how to join.
    file: String,
    waiting: Mutex<Vec<EngineSession>>,
    lines: Mutex<HashMap<u64, Weak<AwaitedLines>>>,
    sessions: AtomicU64,
    come: Notify,
    /// Descriptions of the engines that runs wait for.
    wanted: Mutex<Vec<String>>,
}

impl Lobby {
    /// Makes an empty lobby whose door writes this join file.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.display().to_string(),
            waiting: Mutex::default(),
            lines: Mutex::default(),
            // Numbers of an earlier daemon are no numbers of this one.
            sessions: AtomicU64::new(u64::from(rand::random::<u32>()) << 16),
            come: Notify::new(),
            wanted: Mutex::default(),
        }
    }

    /// Lets an engine in that has greeted.
    pub(super) fn arrive(&self, engine: JoiningEngine, connection: JoinConnection) {
        let (role, host) = (engine.role, engine.host.clone());
        let (ranks, pid) = (engine.ranks, engine.pid);
        let number = self.sessions.fetch_add(1, Relaxed);
        let other = engine.protocol;
        let session = EngineSession::begin(number, engine, connection);
        if other != PROTOCOL {
            let why = format!("the daemon speaks protocol {PROTOCOL}, but the engine speaks {other}");
            return session.dismiss(Farewell::Refused, &why);
        }
        let mut waiting = lock(&self.waiting);
        waiting.retain(|session| !session.is_over());
        if waiting.len() >= MOST_WAITING {
            let why = format!("{MOST_WAITING} engines are already waiting for a run");
            return session.dismiss(Farewell::Refused, &why);
        }
        tracing::info!(
            "an engine joined to {role}: {ranks} ranks, process {pid} on {host}, session {number}"
        );
        let mut lines = lock(&self.lines);
        lines.retain(|_, lines| lines.strong_count() > 0);
        lines.insert(number, Arc::downgrade(&session.lines));
        waiting.push(session);
        self.come.notify_waiters();
    }

    /// Gives a line to the session that asked for it.
    pub(super) fn line(&self, session: u64, line: u64, connection: JoinConnection) {
        let lines = lock(&self.lines).get(&session).and_then(Weak::upgrade);
        if let Some(lines) = lines {
            lines.come(line, connection);
        }
    }

    /// Waits for an engine that fits. Engines of the same role that do not are told why and sent away.
    ///
    /// # Errors
    /// An error once the user wants the run to end.
    pub async fn take(&self, wanted: &WantedEngine, urgency: &Urgency) -> Result<EngineSession, String> {
        let _notice = WaitNotice::new(self, wanted);
        loop {
            let come = self.come.notified();
            if let Some(session) = self.fitting(wanted) {
                return Ok(session);
            }
            if urgency.is_set() {
                return Err("the run is being stopped".to_owned());
            }
            tokio::select! {
                () = come => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    fn fitting(&self, wanted: &WantedEngine) -> Option<EngineSession> {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|session| !session.is_over());
        while let Some(at) = waiting
            .iter()
            .position(|session| session.engine.role == wanted.role)
        {
            let session = waiting.remove(at);
            let Some(why) = wanted.misfit(&session.engine) else {
                return Some(session);
            };
            tracing::warn!("process {} on {}: {why}", session.engine.pid, session.engine.host);
            session.dismiss(Farewell::Refused, &why);
        }
        None
    }

    /// Says what runs wait for, or returns `None` if nothing is waited for.
    #[must_use]
    pub fn awaited(&self) -> Option<String> {
        let wanted = lock(&self.wanted);
        (!wanted.is_empty()).then(|| wanted.join("; "))
    }

    /// Sends away who waits, because the daemon ends.
    pub(super) fn close(&self) {
        for session in lock(&self.waiting).drain(..) {
            session.dismiss(Farewell::Done, "the daemon is ending");
        }
    }
}

/// Says what a run waits for, as long as it lives.
struct WaitNotice<'a> {
    lobby: &'a Lobby,
    words: String,
}

impl<'a> WaitNotice<'a> {
    fn new(lobby: &'a Lobby, wanted: &WantedEngine) -> Self {
        let (role, file) = (wanted.role, &lobby.file);
        let what = match role {
            JoinRole::Train => format!("a world of {}", wanted.sizes()),
            JoinRole::Sample => "a sampling engine".to_owned(),
        };
        let words = format!("is waiting for {what} to join: demask-engine --join {file} --role {role}");
        tracing::info!("the run {words}");
        lock(&lobby.wanted).push(words.clone());
        Self { lobby, words }
    }
}

impl Drop for WaitNotice<'_> {
    fn drop(&mut self) {
        let mut wanted = lock(&self.lobby.wanted);
        if let Some(at) = wanted.iter().position(|words| *words == self.words) {
            wanted.remove(at);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(least_ranks: usize, ranks: usize, dtype: &str) -> WantedEngine {
        WantedEngine {
            role: JoinRole::Train,
            ranks,
            least_ranks,
            shard: Shard::default(),
            dtype: dtype.to_owned(),
        }
    }

    fn world(ranks: usize, found: &str, auto: &str) -> JoiningEngine {
        JoiningEngine {
            protocol: PROTOCOL,
            role: JoinRole::Train,
            ranks,
            shard: Shard::default(),
            dtype: found.to_owned(),
            auto_dtype: auto.to_owned(),
            host: "node-7".to_owned(),
            pid: 1,
        }
    }

    fn misfit(dtype: &str, found: &str, auto: &str) -> Option<String> {
        wanted(2, 2, dtype).misfit(&world(2, found, auto))
    }

    #[test]
    fn l11_worlds_fit_that_have_as_few_ranks_as_the_run_may_go_on_with() {
        for (least, most, found, words) in [
            (2, 2, 2, None),
            (2, 4, 2, None),
            (2, 4, 4, None),
            (2, 4, 1, Some("needs 2 to 4 ranks, but this world has 1")),
            (2, 4, 5, Some("needs 2 to 4 ranks, but this world has 5")),
            (2, 2, 1, Some("needs 2 ranks, but this world has 1")),
        ] {
            let why = wanted(least, most, "f32").misfit(&world(found, "f32", "f32"));
            let fits = match (&why, words) {
                (None, None) => true,
                (Some(why), Some(words)) => why.contains(words),
                _ => false,
            };
            assert!(fits, "{least} to {most}, {found}: {why:?}");
        }
    }

    #[test]
    fn engines_fit_by_the_dtype_that_they_compute_in_whatever_word_chose_it() {
        for (wanted, found, auto) in [
            ("f32", "f32", "bf16"),
            ("bf16", "bf16", "f32"),
            ("auto", "bf16", "bf16"),
            ("auto", "f32", "f32"),
        ] {
            assert_eq!(misfit(wanted, found, auto), None, "{wanted}, {found}, {auto}");
        }
        for (wanted, found, auto, resolved) in [
            ("f32", "bf16", "bf16", "f32"),
            ("bf16", "f32", "f32", "bf16"),
            ("auto", "f32", "bf16", "bf16"),
        ] {
            let why = misfit(wanted, found, auto).unwrap_or_default();
            let both = format!(
                "computes in {resolved} (`engine.dtype` is {wanted}), but this engine computes in {found}"
            );
            assert!(why.contains(&both), "{why}");
        }
    }
}
