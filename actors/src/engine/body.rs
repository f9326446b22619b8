//! The process behind an engine's socket: one that the daemon or the command has started, with the other ranks of its
//! world, or an engine that has joined.

use std::time::Duration;

use tokio::sync::Mutex;

use super::child::EngineChild;
use super::join::bridge::JoinedEngine;
use super::liveness::Urgency;
use super::world::Others;

/// Time for a killed process to end. Its exit status is told, and nothing else needs the end.
const KILLED: Duration = Duration::from_secs(5);
/// The same when the user wants the run to end.
const KILLED_URGENT: Duration = Duration::from_millis(500);
/// Time for an engine to end after a request to end. It is killed then.
const ASKED: Duration = Duration::from_secs(10);
/// The same when the user wants the run to end.
const ASKED_URGENT: Duration = Duration::from_secs(3);

/// The process behind an engine's socket.
#[derive(Debug)]
pub(super) enum EngineBody {
    /// A process of this machine, and the other ranks of its world, which end with it.
    Started(Mutex<Box<dyn EngineChild>>, Option<Others>),
    /// An engine that has joined. Its world ends by itself.
    Joined(JoinedEngine),
}

impl EngineBody {
    /// Waits until a rank of its world has ended; for ever if none can be seen to.
    pub async fn lost(&self) -> String {
        match self {
            Self::Started(_, Some(others)) => others.lost().await,
            Self::Started(_, None) => std::future::pending().await,
            Self::Joined(joined) => joined.session().over().await,
        }
    }

    /// Ends an engine that is given up, and returns how it ended. L10: a stop does not wait long for a process that the
    /// system cannot kill at once.
    pub async fn give_up(&self, why: String, urgency: &Urgency) -> String {
        match self {
            Self::Started(child, _) => {
                let mut child = child.lock().await;
                child.begin_kill().ok();
                let status = tokio::select! {
                    biased;
                    status = child.end() => status.ok(),
                    () = urgency.limit(KILLED, KILLED_URGENT) => None,
                };
                match status {
                    Some(status) => format!("{status}; {why}"),
                    None => why,
                }
            }
            Self::Joined(joined) => {
                joined.give_up(&why);
                let engine = &joined.session().engine;
                format!(
                    "process {} on {}, which had joined; {why}",
                    engine.pid, engine.host
                )
            }
        }
    }

    /// Waits until an engine that was asked to end has ended. A process that does not end in time is killed.
    pub async fn has_ended(&self, urgency: &Urgency) {
        match self {
            Self::Started(child, _) => {
                let mut child = child.lock().await;
                let has_ended = tokio::select! {
                    biased;
                    _ = child.end() => true,
                    () = urgency.limit(ASKED, ASKED_URGENT) => false,
                };
                if !has_ended {
                    child.begin_kill().ok();
                }
            }
            Self::Joined(joined) => tokio::select! {
                _ = joined.session().over() => {}
                () = urgency.limit(ASKED, ASKED_URGENT) => {}
            },
        }
    }
}
