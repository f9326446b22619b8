//! The daemon's socket, on a thread of its own: connects, follows, comes back when the daemon does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};

use crate::update::Msg;

/// Between two tries to reach a daemon that is away.
const RETRY: Duration = Duration::from_millis(500);
/// How many of the last events somebody sees who comes in the middle.
const RECENT: u64 = 3000;
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Follows the daemon until the receiver is gone; commands go out as they come in.
pub fn follow(socket: PathBuf, by: String, out: Sender<Msg>, commands: Receiver<Command>) {
    let (writers, writer) = std::sync::mpsc::channel::<UnixStream>();
    let name = by.clone();
    std::thread::spawn(move || write_all(&name, &writer, &commands));
    std::thread::spawn(move || {
        let mut seq = 0;
        loop {
            if let Ok(stream) = UnixStream::connect(&socket) {
                if out.send(Msg::Connected).is_err() {
                    return;
                }
                read_all(stream, &by, &writers, &out, &mut seq).ok();
                if out.send(Msg::Away).is_err() {
                    return;
                }
            }
            // Nothing tells that a socket has come into being: look again a little later.
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
            // Nobody asked for the events but this thread.
            Ok(ServerMessage::Reply {
                id,
                reply: Reply::Accepted { .. },
                ..
            }) if id == following.id => continue,
            Ok(ServerMessage::Reply { reply, .. }) => Msg::Reply(Box::new(reply)),
            Ok(ServerMessage::Lagged { missed, .. }) => Msg::Lagged(missed),
            Err(_) => continue,
        };
        if out.send(msg).is_err() {
            break;
        }
    }
    Ok(())
}

fn write_all(by: &str, writers: &Receiver<UnixStream>, commands: &Receiver<Command>) {
    let mut writer: Option<UnixStream> = None;
    for command in commands {
        if let Some(newest) = writers.try_iter().last() {
            writer = Some(newest);
        }
        if let Some(stream) = &mut writer {
            say(stream, &message(by, command)).ok();
        }
    }
}
