//! The way of a message to its reply.
//!
//! A command that changes something is done once per id: a repetition gets the remembered reply (law L1). A command that
//! only reads is answered anew each time.
//!
//! L10: commands that wait for the disk have a queue of their own, so that nothing else waits behind them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply};
use tokio::sync::{mpsc, oneshot};

use super::query_process;
use super::replies::{KnownReply, RecentReplies};
use crate::home::Home;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::Probe;

/// A command on its way to the daemon's loop.
#[derive(Debug)]
pub struct PendingCommand {
    /// The message.
    pub message: ClientMessage,
    /// Receiver of the reply.
    pub reply: oneshot::Sender<Reply>,
}

/// The queues of commands.
#[derive(Clone, Debug)]
pub struct CommandQueues {
    /// Commands that are answered from memory, and orders to the run.
    pub prompt: mpsc::Sender<PendingCommand>,
    /// Commands that start, queue or resume a run. They wait for the disk, one after another.
    pub patient: mpsc::Sender<PendingCommand>,
}

impl CommandQueues {
    fn queue(&self, command: &Command) -> &mpsc::Sender<PendingCommand> {
        match command {
            Command::Run(_)
            | Command::Enqueue(_)
            | Command::QueueMove { .. }
            | Command::QueueCancel { .. }
            | Command::ResumeRun { .. } => &self.patient,
            _ => &self.prompt,
        }
    }
}

/// The state that every connection shares.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) home: Home,
    pub(super) recorder: Recorder,
    asked: CommandQueues,
    probe: Probe,
    answered: Arc<Mutex<RecentReplies>>,
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Status => "Status",
        Command::Actors => "Actors",
        Command::Run(_) => "Run",
        Command::Enqueue(_) => "Enqueue",
        Command::QueueMove { .. } => "QueueMove",
        Command::QueueCancel { .. } => "QueueCancel",
        Command::ResumeRun { .. } => "ResumeRun",
        Command::Pause => "Pause",
        Command::Resume => "Resume",
        Command::Stop => "Stop",
        Command::Checkpoint => "Checkpoint",
        Command::Set { .. } => "Set",
        Command::Sample { .. } => "Sample",
        Command::Ask { .. } => "Ask",
        Command::Subscribe { .. } => "Subscribe",
        Command::Follow { .. } => "Follow",
        Command::Query { .. } => "Query",
        Command::Shutdown => "Shutdown",
    }
}

/// Returns whether a command changes something, so that it must not be done twice.
fn changes(command: &Command) -> bool {
    !matches!(
        command,
        Command::Status
            | Command::Actors
            | Command::Query { .. }
            | Command::Subscribe { .. }
            | Command::Follow { .. }
    )
}

impl Desk {
    pub(super) fn new(home: &Home, recorder: Recorder, asked: CommandQueues, probe: Probe) -> Self {
        Self {
            home: home.clone(),
            recorder,
            asked,
            probe,
            answered: Arc::default(),
        }
    }

    /// Has a message answered, as the gateway's flight recorder shows.
    pub(super) async fn answer(&self, message: ClientMessage) -> Reply {
        let handling = self.probe.handle(name(&message.command));
        let reply = self.reply(message).await;
        handling.end(if let Reply::Refused { message } = &reply {
            message.clone()
        } else {
            "ok".to_owned()
        });
        reply
    }

    async fn reply(&self, message: ClientMessage) -> Reply {
        if message.protocol != PROTOCOL {
            let found = message.protocol;
            return Reply::refused(&format!(
                "this daemon speaks protocol {PROTOCOL}, but the client speaks {found}"
            ));
        }
        if let Command::Query { sql, limit } = &message.command {
            return self.query(sql.clone(), *limit).await;
        }
        if !changes(&message.command) {
            return self.done(message).await;
        }
        let id = message.id.clone();
        let command = serde_json::to_vec(&message.command).unwrap_or_default();
        let known = self.answered().of(&id, blake3::hash(&command));
        match known {
            KnownReply::Given(reply) => reply,
            KnownReply::Coming(reply) => reply.await.unwrap_or_else(|_| unanswered()),
            KnownReply::OfAnother => Reply::refused(&format!(
                "the id '{id}' is that of another command: expected an id of its own for each command, such as a UUID"
            )),
            KnownReply::None => {
                let reply = self.done(message).await;
                self.answered().keep(id, reply.clone());
                reply
            }
        }
    }

    /// Has the daemon do a command, and returns its reply.
    async fn done(&self, message: ClientMessage) -> Reply {
        let (reply, wait) = oneshot::channel();
        let queue = self.asked.queue(&message.command);
        if queue.send(PendingCommand { message, reply }).await.is_err() {
            return Reply::refused("the daemon is ending");
        }
        wait.await.unwrap_or_else(|_| unanswered())
    }

    fn answered(&self) -> MutexGuard<'_, RecentReplies> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn query(&self, sql: String, limit: u64) -> Reply {
        let limit = if limit == 0 { 1000 } else { limit };
        match query_process::rows(&self.home, sql, limit).await {
            Ok(rows) => Reply::Rows {
                columns: rows.columns,
                rows: rows.rows,
            },
            Err(message) => Reply::Refused { message },
        }
    }
}

/// The reply to a command that the daemon has dropped, because it is ending.
fn unanswered() -> Reply {
    Reply::refused("the daemon could not answer the request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_is_not_remembered() {
        assert!(!changes(&Command::Status) && !changes(&Command::Actors));
        assert!(changes(&Command::Pause) && changes(&Command::Shutdown));
    }
}
