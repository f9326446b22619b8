//! The connection to the daemon's socket on separate threads: connects, follows, and reconnects when the daemon comes
//! back.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};

use crate::model::message::Msg;

/// The interval between two tries to reach an absent daemon.
const RETRY: Duration = Duration::from_millis(500);
/// The number of past events that a new dashboard receives.
const RECENT: u64 = 3000;
static NEXT: AtomicU64 = AtomicU64::new(0);

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

    /// Converts a reply to a message; the refusal of a query is matched to the query.
    fn answered(&self, id: &str, reply: Reply) -> Msg {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        match (waiting, reply) {
            (Some(sql), Reply::Refused { message }) => Msg::NoRows { sql, message },
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
    let (name, queries) = (by.clone(), Queries::default());
    let noted = queries.clone();
    std::thread::spawn(move || write_all(&name, &writer, &commands, &noted));
    std::thread::spawn(move || {
        let mut seq = 0;
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                if out.send(Msg::Connected).is_err() {
                    return;
                }
                read_all(stream, &by, &writers, &out, &mut seq, &queries).ok();
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

fn message(by: &str, command: Command) -> ClientMessage {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ClientMessage {
        id: format!("{}-{number}-{by}", std::process::id()),
        protocol: PROTOCOL,
        by: by.to_owned(),
        command,
    }
}

fn say(stream: &mut UnixStream, message: &ClientMessage) -> std::io::Result<()> {
    writeln!(stream, "{}", serde_json::to_string(message)?)
}

fn read_all(
    stream: UnixStream,
    by: &str,
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
    let following = message(by, events);
    for message in [
        &message(by, Command::Status),
        &message(by, Command::Actors),
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

fn write_all(by: &str, writers: &Receiver<UnixStream>, commands: &Receiver<Command>, queries: &Queries) {
    let mut writer: Option<UnixStream> = None;
    for command in commands {
        if let Some(newest) = writers.try_iter().last() {
            writer = Some(newest);
        }
        if let Some(stream) = &mut writer {
            let message = message(by, command);
            queries.note(&message);
            say(stream, &message).ok();
        }
    }
}
