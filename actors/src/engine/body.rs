//! The process behind an engine's socket: one that the daemon or the command has started, with the other ranks of its
//! world, or an engine that has joined.

use std::time::Duration;

use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::join::bridge::JoinedEngine;
use super::world::Others;

/// Time for an engine to end after a request to end.
const ASKED: Duration = Duration::from_secs(10);

/// The process behind an engine's socket.
#[derive(Debug)]
pub(super) enum EngineBody {
    /// A process of this machine, and the other ranks of its world, which end with it.
    Started(Box<Mutex<Child>>, Option<Others>),
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

    /// Ends an engine that is given up, and returns how it ended, if it has within `limit`.
    pub async fn give_up(&self, why: String, limit: Duration) -> String {
        match self {
            Self::Started(child, _) => {
                let mut child = child.lock().await;
                child.start_kill().ok();
                match timeout(limit, child.wait()).await {
                    Ok(Ok(status)) => format!("{status}; {why}"),
                    _ => why,
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

    /// Waits until an engine that was asked to end has ended.
    pub async fn has_ended(&self) {
        match self {
            Self::Started(child, _) => {
                timeout(ASKED, child.lock().await.wait()).await.ok();
            }
            Self::Joined(joined) => joined.has_left(ASKED).await,
        }
    }
}
