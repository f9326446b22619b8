//! Requests of runs that come again (law L1): a client that has lost its connection, or whose daemon has died, sends its
//! message once more and learns what became of the run.
//!
//! The id of a run is a function of that of the message which asks for it, so the rows say whether it was asked for
//! before, by whichever daemon.

use demask_storage::runs::requested::{RequestState, requested};
use demask_storage::{Reply, RunRequest, RunState, store};

use super::Daemon;
use crate::daemon::run_record::LATE;
use crate::runtime::disk::of_store;
use crate::runtime::ids;

impl Daemon {
    /// Returns the reply to a request that was taken before under the same message id; `None` if it is new.
    pub(super) async fn repeated(&mut self, id: &str, request: &RunRequest, queues: bool) -> Option<Reply> {
        let run = ids::of_run(id).to_string();
        let (path, named) = (self.home.database(), run.clone());
        let found = of_store(move || requested(&store::open_read_only(&path)?, &named)).await;
        let known = match found {
            Ok(known) => known?,
            Err(error) => return Some(Reply::refused(&error.to_string())),
        };
        // What can no longer be read cannot be compared.
        let asked = self.begun_by(&run, request).await.ok();
        if asked.is_some_and(|(asked, _)| asked.config_hash != known.config_hash) {
            return Some(Reply::refused(&format!(
                "the id '{id}' is that of an earlier request, of run {run} with another configuration: expected an id of its \
                 own for each request, such as a UUID"
            )));
        }
        Some(match known.state {
            RequestState::Begun { status, reason } if status == RunState::Failed && reason == LATE => {
                Reply::refused(&format!("the run was not started: {reason}"))
            }
            RequestState::Begun { .. } if queues => Reply::Queued { run, ahead: 0 },
            RequestState::Begun { .. } => Reply::Started { run },
            // It is begun, and its own row is on its way.
            RequestState::Waiting if self.begun.contains(&run) => Reply::Queued { run, ahead: 0 },
            RequestState::Waiting => self.queued(run).await,
            RequestState::Cancelled { reason } => {
                Reply::refused(&format!("run {run} was cancelled: {reason}"))
            }
        })
    }
}
