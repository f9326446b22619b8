//! The Gateway: the server of the control socket. Commands come in; replies and a stream of events go out. A message is
//! one line of JSON.
//!
//! A client that reads too slowly gets the number of events that it missed and continues with the newest; nothing waits
//! for it (law L2). A command that changes something is done once per id: a repetition gets the remembered reply (law
//! L1). A command that only reads is answered anew each time.
//!
//! L10: commands that wait for the disk have a queue of their own, so that nothing else waits behind them.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use demask_storage::{ClientMessage, Command, Envelope, PROTOCOL, Reply, ServerMessage, events, store};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use super::bounded_lines::BoundedLines;
use super::query_process;
use crate::home::Home;
use crate::runtime::actor::offload;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::Probe;

/// Replies that are remembered for repeated commands.
const REMEMBERED: usize = 1024;
/// Time between two attempts to accept a connection after an error, for example when no file descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Events that are read from the store at a time when a client catches up.
const CATCH_UP: u64 = 500;

/// The start of a stream of events.
#[derive(Clone, Copy)]
enum StreamStart {
    /// The present moment.
    Now,
    /// The event after this sequence number.
    After(u64),
    /// The results of the run's benchmarks and this many of its last events.
    Recent(u64),
}

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
struct Desk {
    home: Home,
    recorder: Recorder,
    asked: CommandQueues,
    probe: Probe,
    answered: Arc<Mutex<RecentReplies>>,
}

/// The last replies to commands that change something, by message id.
#[derive(Debug, Default)]
struct RecentReplies {
    replies: HashMap<String, Reply>,
    /// Ids of the replies, oldest first.
    order: VecDeque<String>,
}

impl RecentReplies {
    fn keep(&mut self, id: String, reply: Reply) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.replies.remove(&oldest);
        }
        if self.replies.insert(id.clone(), reply).is_none() {
            self.order.push_back(id);
        }
    }
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

/// Binds the socket and serves it for as long as the returned task lives.
///
/// # Errors
/// An error if the socket cannot be bound.
pub fn open(
    home: &Home,
    recorder: Recorder,
    asked: CommandQueues,
    probe: Probe,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let path = home.socket()?;
    // The caller holds the home's lock, so an existing socket belongs to a dead daemon.
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let desk = Desk {
        home: home.clone(),
        recorder,
        asked,
        probe,
        answered: Arc::default(),
    };
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        if let Err(error) = desk.converse(stream).await {
                            tracing::debug!("client: {error}");
                        }
                    });
                }
                // One connection that cannot be accepted must not end the gateway for all clients.
                Err(error) => {
                    tracing::warn!("a client could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }))
}

impl Desk {
    async fn converse(&self, stream: UnixStream) -> anyhow::Result<()> {
        let (input, mut out) = stream.into_split();
        let mut lines = BoundedLines::new(input);
        while let Some(line) = lines.next_line().await? {
            let message: ClientMessage = match serde_json::from_str(&line) {
                Ok(message) => message,
                Err(error) => {
                    let reply = Reply::Refused {
                        message: format!("not a command of protocol {PROTOCOL}: {error}"),
                    };
                    say(&mut out, String::new(), reply).await?;
                    continue;
                }
            };
            let (id, since) = (
                message.id.clone(),
                match message.command {
                    Command::Subscribe { since: 0 } if message.protocol == PROTOCOL => Some(StreamStart::Now),
                    Command::Subscribe { since } if message.protocol == PROTOCOL => {
                        Some(StreamStart::After(since))
                    }
                    Command::Follow { recent } if message.protocol == PROTOCOL => {
                        Some(StreamStart::Recent(recent))
                    }
                    _ => None,
                },
            );
            // The subscription starts before the reply, so that no event falls between them.
            let watch = since.map(|since| (since, self.recorder.watch()));
            say(&mut out, id, self.answer(message).await).await?;
            if let Some((since, watch)) = watch {
                return self.stream(since, watch, out, lines).await;
            }
        }
        Ok(())
    }

    async fn answer(&self, message: ClientMessage) -> Reply {
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
            return Reply::Refused {
                message: format!("this daemon speaks protocol {PROTOCOL}, but the client speaks {found}"),
            };
        }
        let changes = changes(&message.command);
        if let Some(reply) = changes.then(|| self.remembered(&message.id)).flatten() {
            return reply;
        }
        if let Command::Query { sql, limit } = &message.command {
            return self.query(sql.clone(), *limit).await;
        }
        let id = message.id.clone();
        let (reply, wait) = oneshot::channel();
        let queue = self.asked.queue(&message.command);
        if queue.send(PendingCommand { message, reply }).await.is_err() {
            return Reply::Refused {
                message: "the daemon is ending".into(),
            };
        }
        let reply = wait.await.unwrap_or_else(|_| Reply::Refused {
            message: "the daemon could not answer the request".into(),
        });
        // A stop that the disk has not confirmed may be confirmed when it is asked for again.
        if changes && !matches!(reply, Reply::Taken { .. }) {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            answered.keep(id, reply.clone());
        }
        reply
    }

    fn remembered(&self, id: &str) -> Option<Reply> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.replies.get(id).cloned()
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

    /// Sends events until the client disconnects. Commands may still arrive on the same connection.
    async fn stream(
        &self,
        since: StreamStart,
        mut watch: tokio::sync::broadcast::Receiver<Envelope>,
        mut out: OwnedWriteHalf,
        mut lines: BoundedLines<tokio::net::unix::OwnedReadHalf>,
    ) -> anyhow::Result<()> {
        let mut sent = match since {
            StreamStart::Now => 0,
            StreamStart::After(seq) => self.catch_up(seq, &mut out).await?,
            StreamStart::Recent(count) => self.missed(count, &mut out).await?,
        };
        loop {
            tokio::select! {
                event = watch.recv() => match event {
                    Ok(envelope) => {
                        // The catch-up has sent this event already.
                        if envelope.record.is_durable() && envelope.seq <= sent {
                            continue;
                        }
                        line(&mut out, &ServerMessage::Event(envelope)).await?;
                    }
                    Err(RecvError::Lagged(missed)) => {
                        let next = self.recorder.last_seq() + 1;
                        line(&mut out, &ServerMessage::Lagged { missed, next }).await?;
                        sent = 0;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                said = lines.next_line() => {
                    let Some(said) = said? else { return Ok(()) };
                    if let Ok(message) = serde_json::from_str::<ClientMessage>(&said) {
                        let id = message.id.clone();
                        say(&mut out, id, self.answer(message).await).await?;
                    }
                }
            }
        }
    }

    /// Sends what a client that joins in the middle has missed. Returns the last sequence number sent.
    async fn missed(&self, recent: u64, out: &mut OwnedWriteHalf) -> anyhow::Result<u64> {
        let path = self.home.database();
        let events = offload(move || events::recent_events(&store::open_read_only(&path)?, recent)).await??;
        let sent = events.last().map_or(0, |last| last.seq);
        for envelope in events {
            line(out, &ServerMessage::Event(envelope)).await?;
        }
        Ok(sent)
    }

    async fn catch_up(&self, since: u64, out: &mut OwnedWriteHalf) -> anyhow::Result<u64> {
        let mut sent = since;
        loop {
            let path = self.home.database();
            let events =
                offload(move || events::events_since(&store::open_read_only(&path)?, sent, CATCH_UP))
                    .await??;
            let Some(last) = events.last() else {
                return Ok(sent);
            };
            sent = last.seq;
            for envelope in events {
                line(out, &ServerMessage::Event(envelope)).await?;
            }
        }
    }
}

async fn say(out: &mut OwnedWriteHalf, id: String, reply: Reply) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    line(
        out,
        &ServerMessage::Reply {
            id,
            protocol: PROTOCOL,
            version,
            reply,
        },
    )
    .await
}

async fn line(out: &mut OwnedWriteHalf, message: &ServerMessage) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(message)?;
    text.push('\n');
    out.write_all(text.as_bytes()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    fn accepted(step: u64) -> Reply {
        Reply::Accepted {
            message: String::new(),
            step,
        }
    }

    #[test]
    fn the_newest_replies_are_remembered_and_the_oldest_forgotten() {
        let mut memory = RecentReplies::default();
        for number in 0..=REMEMBERED as u64 {
            memory.keep(number.to_string(), accepted(number));
        }
        assert_eq!(memory.replies.len(), REMEMBERED);
        assert_eq!(memory.replies.get("0"), None);
        assert_eq!(memory.replies.get("1"), Some(&accepted(1)));
    }

    #[test]
    fn what_only_looks_is_not_remembered() {
        assert!(!changes(&Command::Status) && !changes(&Command::Actors));
        assert!(changes(&Command::Pause) && changes(&Command::Shutdown));
    }
}
