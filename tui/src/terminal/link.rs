//! The connection to the daemon's socket on separate threads: connects, follows, and reconnects when the daemon comes
//! back.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};

use crate::model::message::Msg;

/// The interval between two tries to reach an absent daemon.
const RETRY: Duration = Duration::from_millis(500);
/// The number of past events that a new dashboard receives.
const RECENT: u64 = 3000;

/// The author of a dashboard's messages.
struct MessageAuthor {
    /// The user name and client, for the audit row.
    by: String,
    /// A name that no other dashboard has or had.
    dashboard: String,
    /// The number of messages so far.
    count: AtomicU64,
}

impl MessageAuthor {
    /// L1: the daemon does a command once per id, and the store knows the ids of all orders for ever. A process id would
    /// come again, in a container after each of its starts, and the order under it would be taken for one that was done.
    fn new(by: String) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_us = since.map_or(0, |since| since.as_micros());
        // The clock may be set back, so a random number is added.
        let random = RandomState::new().build_hasher().finish();
        Self {
            by,
            dashboard: format!("{at_us}-{random:016x}"),
            count: AtomicU64::new(0),
        }
    }

    fn message(&self, command: Command) -> ClientMessage {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        ClientMessage {
            id: format!("{}-{number}", self.dashboard),
            protocol: PROTOCOL,
            by: self.by.clone(),
            command,
        }
    }
}

/// Queries that wait for a reply, by message id.
#[derive(Clone, Default)]
struct Queries(Arc<Mutex<HashMap<String, String>>>);

impl Queries {
    fn note(&self, message: &ClientMessage) {
        if let Command::Query { sql, .. } = &message.command {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.insert(message.id.clone(), sql.clone());
        }
    }

    /// Converts a reply to a message; the result or the refusal of a query is matched to the query.
    fn answered(&self, id: &str, reply: Reply) -> Msg {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        match (waiting, reply) {
            (Some(sql), Reply::Refused { message }) => Msg::NoRows { sql, message },
            (Some(sql), Reply::Rows { columns, rows }) => Msg::Rows { sql, columns, rows },
            (_, reply) => Msg::Reply(Box::new(reply)),
        }
    }

    /// Forgets the queries of a lost connection, which will not be answered.
    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Follows the daemon until the receiver is dropped, and sends commands as they arrive.
pub fn follow(socket: PathBuf, by: String, out: Sender<Msg>, commands: Receiver<Command>) {
    let (writers, writer) = std::sync::mpsc::channel::<UnixStream>();
    let (author, queries) = (Arc::new(MessageAuthor::new(by)), Queries::default());
    let (writing, noted) = (Arc::clone(&author), queries.clone());
    std::thread::spawn(move || write_all(&writing, &writer, &commands, &noted));
    std::thread::spawn(move || {
        let mut seq = 0;
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                if out.send(Msg::Connected).is_err() {
                    return;
                }
                read_all(stream, &author, &writers, &out, &mut seq, &queries).ok();
                queries.forget();
                if out.send(Msg::Away).is_err() {
                    return;
                }
            }
            // Nothing signals that a socket has appeared, so it is polled.
            std::thread::park_timeout(RETRY);
        }
    });
}

fn say(stream: &mut UnixStream, message: &ClientMessage) -> std::io::Result<()> {
    writeln!(stream, "{}", serde_json::to_string(message)?)
}

fn read_all(
    stream: UnixStream,
    author: &MessageAuthor,
    writers: &Sender<UnixStream>,
    out: &Sender<Msg>,
    seq: &mut u64,
    queries: &Queries,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let events = match *seq {
        0 => Command::Follow { recent: RECENT },
        since => Command::Subscribe { since },
    };
    let following = author.message(events);
    for message in [
        &author.message(Command::Status),
        &author.message(Command::Actors),
        &following,
    ] {
        say(&mut writer, message)?;
    }
    writers.send(writer).ok();
    for line in BufReader::new(stream).lines() {
        let msg = match serde_json::from_str(&line?) {
            Ok(ServerMessage::Event(envelope)) => {
                *seq = (*seq).max(envelope.seq);
                Msg::Event(Box::new(envelope))
            }
            // This thread itself subscribed to the events; the reply concerns nobody else.
            Ok(ServerMessage::Reply {
                id,
                reply: Reply::Accepted { .. },
                ..
            }) if id == following.id => continue,
            Ok(ServerMessage::Reply { id, reply, .. }) => queries.answered(&id, reply),
            Ok(ServerMessage::Lagged { missed, .. }) => Msg::Lagged(missed),
            Err(_) => continue,
        };
        if out.send(msg).is_err() {
            break;
        }
    }
    Ok(())
}

fn write_all(
    author: &MessageAuthor,
    writers: &Receiver<UnixStream>,
    commands: &Receiver<Command>,
    queries: &Queries,
) {
    let mut writer: Option<UnixStream> = None;
    for command in commands {
        if let Some(newest) = writers.try_iter().last() {
            writer = Some(newest);
        }
        if let Some(stream) = &mut writer {
            let message = author.message(command);
            queries.note(&message);
            say(stream, &message).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashSet;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;

    /// Opens a dashboard and returns the ids of what it asks when it is connected, and the connection.
    fn ids_of_a_dashboard(listener: &UnixListener, socket: PathBuf) -> (Vec<String>, UnixStream) {
        let (out, _messages) = channel();
        let (_ask, commands) = channel();
        follow(socket, "me (dashboard)".into(), out, commands);
        let (stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let id = |line: std::io::Result<String>| {
            let message: ClientMessage = serde_json::from_str(&line.unwrap()).unwrap();
            message.id
        };
        (lines.take(3).map(id).collect(), stream)
    }

    /// Both dashboards here have one process id, as those of a container have before and after its restart.
    #[test]
    fn l1_a_dashboard_uses_no_id_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (before, _before) = ids_of_a_dashboard(&listener, socket.clone());
        let (after, _after) = ids_of_a_dashboard(&listener, socket);
        let ids: HashSet<&String> = before.iter().chain(&after).collect();
        assert_eq!(ids.len(), 6, "{before:?} {after:?}");
    }
}
