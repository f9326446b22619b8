//! An order on its way to the run: what waits for the disk, and what the client is told.
//!
//! L4: an order is acknowledged when its row is on the disk. L10: a stop is in effect before that. If the disk does not
//! confirm its row within a few seconds, the client is told just that ([`Reply::Taken`]), and the row follows.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use demask_storage::{Command, Reply, RunState};
use tokio::sync::oneshot;

use super::Control;
use crate::runtime::recorder::Recorder;

/// Longest wait for the row of a stop before the client is told that the disk has not confirmed it. A client waits for
/// five seconds.
const CONFIRMED: Duration = Duration::from_secs(3);

/// The control of a run's present life. Each life has a new one.
pub type PresentControl = Rc<RefCell<Arc<Control>>>;

/// An order on its way to the run.
#[derive(Debug)]
pub struct PendingOrder {
    /// Control of the run.
    pub control: PresentControl,
    /// Recorder of the daemon.
    pub recorder: Recorder,
    /// Id of the message.
    pub id: String,
    /// Who gives the order.
    pub by: String,
    /// The order.
    pub command: Command,
}

impl PendingOrder {
    /// Gives the order to the run, and waits until its row is on the disk.
    pub async fn recorded(&self) -> Reply {
        loop {
            let present = Arc::clone(&self.control.borrow());
            let taken = present
                .ask(&self.recorder, &self.id, &self.by, self.command.clone())
                .await;
            // Another life began meanwhile and must learn of the order too. An id is taken only once, so asking again
            // is safe.
            if taken.is_ok() && !Arc::ptr_eq(&present, &self.control.borrow()) {
                continue;
            }
            return match taken {
                Ok(step) => self.accepted(present.ended_before(&self.id), step),
                Err(error) => Reply::refused(&error.to_string()),
            };
        }
    }

    /// Says when the order takes effect. A run that has ended, as `ended` says, is still here while the disk confirms its
    /// end.
    fn accepted(&self, ended: Option<RunState>, step: u64) -> Reply {
        let message = match ended {
            None => "accepted; it takes effect at the next step boundary",
            Some(RunState::Done) if self.command == Command::Stop => {
                "the run was done before the stop took effect"
            }
            Some(RunState::Done) => {
                return Reply::refused("the run was done before the order could take effect");
            }
            Some(RunState::Interrupted) => {
                "accepted; the daemon is ending, so it takes effect when the next one continues the run"
            }
            Some(_) => {
                "accepted; the run has ended, so it takes effect when `demask resume` continues the run"
            }
        };
        Reply::Accepted {
            message: message.to_owned(),
            step,
        }
    }

    /// Stops the run. The stop is in effect before this waits for anything; the reply says whether the disk has
    /// confirmed it. With `loses_stops`, a deliberate bug, it says so in any case.
    ///
    /// L2: where another stop is in effect, this ends with the reply and leaves nothing behind.
    pub async fn stop(&self, reply: oneshot::Sender<Reply>, loses_stops: bool) {
        let step = self.control.borrow().place().1;
        let shares = self.control.borrow().shares_stop();
        let recorded = self.recorded();
        tokio::pin!(recorded);
        if let Ok(said) = tokio::time::timeout(CONFIRMED, &mut recorded).await {
            let said = match said {
                Reply::Accepted { step, .. } if shares => Reply::Accepted {
                    message: "the run is being stopped already".to_owned(),
                    step,
                },
                said => said,
            };
            reply.send(said).ok();
            return;
        }
        let message = "the run is being stopped, but the disk has not confirmed the order yet: if the daemon dies before \
                       it does, the next one continues the run; `demask runs list` shows when the run is stopped"
            .to_owned();
        let said = match loses_stops {
            true => Reply::Accepted { message, step },
            false => Reply::Taken { message, step },
        };
        reply.send(said).ok();
        if shares {
            return;
        }
        // The row follows, however long the disk takes.
        if let Reply::Refused { message } = recorded.await {
            tracing::error!("the stop that {} asked for has no row: {message}", self.by);
        }
    }
}
