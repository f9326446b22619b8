//! A connection of a client: its commands, their replies, and the events that it asked for.
//!
//! A client that reads too slowly gets the number of events that it missed and continues with the newest; nothing waits
//! for it (law L2).
//!
//! L10: what is answered from memory, above all a stop, does not wait behind what the same connection has asked before,
//! nor for the events that it has missed: the dashboard has only one connection. All other commands of a connection are
//! done one after another.

use std::sync::Arc;

use demask_storage::{ClientMessage, Command, Envelope, PROTOCOL, Reply, ServerMessage, events, store};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc};

use super::bounded_lines::{BoundedLines, LineWriter};
use super::desk::Desk;
use crate::runtime::actor::offload;

/// Events that are read from the store at a time when a client catches up.
const CATCH_UP: u64 = 500;
/// Commands of a connection that wait for their turn.
const IN_TURN: usize = 64;
/// Commands of a connection that are answered beside the others at a time.
const BESIDE: usize = 8;

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

/// Returns whether a command is answered within seconds whatever waits for the disk, so that it need not wait for its
/// turn.
fn overtakes(command: &Command) -> bool {
    matches!(
        command,
        Command::Status | Command::Actors | Command::Stop | Command::Shutdown
    )
}

/// The daemon's end of a connection.
struct Conversation<'a> {
    desk: &'a Desk,
    out: LineWriter,
    /// L2: commands that are done one after another.
    in_turn: mpsc::Sender<ClientMessage>,
    /// L2: room for commands that overtake those.
    beside: Arc<Semaphore>,
}

/// Talks with a client until it disconnects.
///
/// # Errors
/// An error of the connection, or of the store that its events are read from.
pub(super) async fn converse(desk: &Desk, stream: UnixStream) -> anyhow::Result<()> {
    let (input, out) = stream.into_split();
    Conversation::begin(desk, out).go_on(input).await
}

impl<'a> Conversation<'a> {
    /// Begins to do the commands of a connection one after another. They are done also if the client is gone.
    fn begin(desk: &'a Desk, out: OwnedWriteHalf) -> Self {
        let out = LineWriter::begin(out);
        let (in_turn, mut commands) = mpsc::channel::<ClientMessage>(IN_TURN);
        let (own, said) = (desk.clone(), out.clone());
        tokio::spawn(async move {
            while let Some(message) = commands.recv().await {
                if let Err(error) = tell(&own, &said, message).await {
                    tracing::debug!("client: {error}");
                }
            }
        });
        Self {
            desk,
            out,
            in_turn,
            beside: Arc::new(Semaphore::new(BESIDE)),
        }
    }

    /// Reads commands until the client disconnects or asks for events.
    async fn go_on(&self, input: OwnedReadHalf) -> anyhow::Result<()> {
        let mut lines = BoundedLines::new(input);
        while let Some(line) = lines.next_line().await? {
            let message: ClientMessage = match serde_json::from_str(&line) {
                Ok(message) => message,
                Err(error) => {
                    let why = format!("not a command of protocol {PROTOCOL}: {error}");
                    let reply = Reply::refused(&why);
                    say(&self.out, String::new(), reply).await?;
                    continue;
                }
            };
            let since = match message.command {
                Command::Subscribe { since: 0 } if message.protocol == PROTOCOL => StreamStart::Now,
                Command::Subscribe { since } if message.protocol == PROTOCOL => StreamStart::After(since),
                Command::Follow { recent } if message.protocol == PROTOCOL => StreamStart::Recent(recent),
                _ if overtakes(&message.command) => {
                    self.answer_beside(message).await?;
                    continue;
                }
                _ => {
                    self.in_turn.send(message).await?;
                    continue;
                }
            };
            // The subscription starts before the reply, so that no event falls between them.
            let watch = self.desk.recorder.watch();
            tell(self.desk, &self.out, message).await?;
            return self.stream(since, watch, lines).await;
        }
        Ok(())
    }

    /// Answers a command that need not wait for its turn, in a task of its own.
    async fn answer_beside(&self, message: ClientMessage) -> anyhow::Result<()> {
        let permit = Arc::clone(&self.beside).acquire_owned().await?;
        let (desk, out) = (self.desk.clone(), self.out.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = tell(&desk, &out, message).await {
                tracing::debug!("client: {error}");
            }
        });
        Ok(())
    }

    /// Has a command of a client that also receives events answered. The events go on meanwhile, so what finds no room is
    /// refused.
    async fn answer_watcher(&self, message: ClientMessage) -> anyhow::Result<()> {
        if overtakes(&message.command) {
            return self.answer_beside(message).await;
        }
        let id = message.id.clone();
        if self.in_turn.try_send(message).is_err() {
            let message = format!(
                "{IN_TURN} commands of this connection wait for their turn, expected at most {IN_TURN}: `demask ps` shows \
                 what they wait for, and a stop does not wait for them"
            );
            say(&self.out, id, Reply::Refused { message }).await?;
        }
        Ok(())
    }

    /// Sends events until the client disconnects. Commands may still arrive on the same connection, also while the events
    /// that it has missed are read from the disk (L10).
    async fn stream(
        &self,
        since: StreamStart,
        mut watch: Receiver<Envelope>,
        mut lines: BoundedLines<OwnedReadHalf>,
    ) -> anyhow::Result<()> {
        let catching_up = async {
            match since {
                StreamStart::Now => Ok(0),
                StreamStart::After(seq) => self.catch_up(seq).await,
                StreamStart::Recent(count) => self.missed(count).await,
            }
        };
        tokio::pin!(catching_up);
        // Sequence number of the last event that the catch-up has sent; `None` until it is done.
        let mut sent = None;
        loop {
            tokio::select! {
                reached = &mut catching_up, if sent.is_none() => sent = Some(reached?),
                event = watch.recv(), if sent.is_some() => match event {
                    Ok(envelope) => {
                        // The catch-up has sent this event already.
                        if envelope.record.is_durable() && Some(envelope.seq) <= sent {
                            continue;
                        }
                        line(&self.out, &ServerMessage::Event(envelope)).await?;
                    }
                    Err(RecvError::Lagged(missed)) => {
                        let next = self.desk.recorder.last_seq() + 1;
                        line(&self.out, &ServerMessage::Lagged { missed, next }).await?;
                        sent = Some(0);
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                said = lines.next_line() => {
                    let Some(said) = said? else { return Ok(()) };
                    if let Ok(message) = serde_json::from_str::<ClientMessage>(&said) {
                        self.answer_watcher(message).await?;
                    }
                }
            }
        }
    }

    /// Sends what a client that joins in the middle has missed. Returns the last sequence number sent.
    async fn missed(&self, recent: u64) -> anyhow::Result<u64> {
        let path = self.desk.home.database();
        let events = offload(move || events::recent_events(&store::open_read_only(&path)?, recent)).await??;
        let sent = events.last().map_or(0, |last| last.seq);
        for envelope in events {
            line(&self.out, &ServerMessage::Event(envelope)).await?;
        }
        Ok(sent)
    }

    async fn catch_up(&self, since: u64) -> anyhow::Result<u64> {
        let mut sent = since;
        loop {
            let path = self.desk.home.database();
            let events =
                offload(move || events::events_since(&store::open_read_only(&path)?, sent, CATCH_UP))
                    .await??;
            let Some(last) = events.last() else {
                return Ok(sent);
            };
            sent = last.seq;
            for envelope in events {
                line(&self.out, &ServerMessage::Event(envelope)).await?;
            }
        }
    }
}

/// Answers a command and sends the reply.
async fn tell(desk: &Desk, out: &LineWriter, message: ClientMessage) -> anyhow::Result<()> {
    let id = message.id.clone();
    say(out, id, desk.answer(message).await).await
}

async fn say(out: &LineWriter, id: String, reply: Reply) -> anyhow::Result<()> {
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

async fn line(out: &LineWriter, message: &ServerMessage) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(message)?;
    text.push('\n');
    Ok(out.send(text).await?)
}
