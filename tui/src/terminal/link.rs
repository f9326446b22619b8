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

use crate::model::message::{AWAY, Msg};

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

/// The user's orders and the queries that wait for a reply, by message id.
#[derive(Clone, Default)]
struct Unanswered(Arc<Mutex<HashMap<String, Command>>>);

impl Unanswered {
    fn note(&self, message: &ClientMessage) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(message.id.clone(), message.command.clone());
    }

    /// Converts a reply to a message; the result or the refusal of a query is matched to the query.
    fn answered(&self, id: &str, reply: Reply) -> Msg {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        match (waiting, reply) {
            (Some(Command::Query { sql, .. }), Reply::Refused { message }) => Msg::NoRows { sql, message },
            (Some(Command::Query { sql, .. }), Reply::Rows { columns, rows }) => {
                Msg::Rows { sql, columns, rows }
            }
            (_, reply) => Msg::Reply(Box::new(reply)),
        }
    }

    /// Forgets what was sent over a lost connection and will not be answered. Returns what is told about each order: only
    /// the daemon knows whether it was carried out.
    fn forget(&self) -> Vec<Msg> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let orders = waiting.into_values().filter_map(|command| {
            let what = match command {
                Command::QueueMove { run, .. } => format!("the move of {run} in the queue"),
                Command::QueueCancel { run } => format!("the cancellation of {run}"),
                other => other.action()?.to_string(),
            };
            let message = format!(
                "{what}: the daemon was lost before it answered, so this may be done or not: look when it is back"
            );
            Some(Msg::Reply(Box::new(Reply::Refused { message })))
        });
        orders.collect()
    }
}

/// Follows the daemon until the receiver is dropped, and sends commands as they arrive.
pub fn follow(socket: PathBuf, by: String, out: Sender<Msg>, commands: Receiver<Command>) {
    let (writers, writer) = std::sync::mpsc::channel::<UnixStream>();
    let (author, sent) = (Arc::new(MessageAuthor::new(by)), Unanswered::default());
    let (writing, noted, told) = (Arc::clone(&author), sent.clone(), out.clone());
    std::thread::spawn(move || write_all(&writing, &writer, &commands, &noted, &told));
    std::thread::spawn(move || {
        let mut seq = 0;
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                read_all(stream, &author, &writers, &out, &mut seq, &sent).ok();
                for msg in std::iter::once(Msg::Away).chain(sent.forget()) {
                    if out.send(msg).is_err() {
                        return;
                    }
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
    sent: &Unanswered,
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
    // In this order, so that what the user asks for from now on finds the connection.
    writers.send(writer).ok();
    if out.send(Msg::Connected).is_err() {
        return Ok(());
    }
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
            Ok(ServerMessage::Reply { id, reply, .. }) => sent.answered(&id, reply),
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
    sent: &Unanswered,
    out: &Sender<Msg>,
) {
    let mut writer: Option<UnixStream> = None;
    for command in commands {
        if let Some(newest) = writers.try_iter().last() {
            writer = Some(newest);
        }
        let message = author.message(command);
        sent.note(&message);
        let is_sent = writer
            .as_mut()
            .is_some_and(|stream| say(stream, &message).is_ok());
        if !is_sent {
            writer = None;
            let refused = Reply::Refused { message: AWAY.into() };
            out.send(sent.answered(&message.id, refused)).ok();
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

    /// A daemon that dies before it has answered an order: the user is told that it may be done or not.
    #[test]
    fn what_a_lost_daemon_has_not_answered_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("daemon.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (out, messages) = channel();
        let (ask, commands) = channel();
        follow(socket, "me (dashboard)".into(), out, commands);
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream).lines();
        for _ in 0..3 {
            lines.next().unwrap().unwrap();
        }
        assert!(matches!(messages.recv().unwrap(), Msg::Connected));
        ask.send(Command::Pause).unwrap();
        let order = lines.next().unwrap().unwrap();
        assert!(order.contains("pause"), "{order}");
        drop(lines);
        assert!(matches!(messages.recv().unwrap(), Msg::Away));
        let told = format!("{:?}", messages.recv().unwrap());
        assert!(
            told.contains("pause: the daemon was lost before it answered"),
            "{told}"
        );
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
