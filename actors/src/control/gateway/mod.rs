//! The Gateway: the server of the control socket. Commands come in; replies and a stream of events go out. A message is
//! one line of JSON.
//!
//! - `conversation.rs`: a connection; `bounded_lines.rs`: its lines;
//! - `desk.rs`: the way of a message to its reply; `replies.rs`: the last replies;
//! - `query_process.rs`: queries.
//!
//! Not here: what a command does (`daemon/`, `pending_order.rs`), and the format of messages (the `storage` crate).

mod bounded_lines;
mod conversation;
mod desk;
mod query_process;
mod replies;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tokio::net::UnixListener;

pub use desk::{CommandQueues, PendingCommand};

use self::desk::Desk;
use crate::home::Home;
use crate::runtime::recorder::Recorder;
use crate::runtime::supervisor::Probe;

/// Time between two attempts to accept a connection after an error, for example when no file descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

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
    let desk = Desk::new(home, recorder, asked, probe);
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        if let Err(error) = conversation::converse(&desk, stream).await {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::bounded_lines::BoundedLines;
    use super::*;
    use crate::runtime::supervisor::Roster;
    use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;
    use tokio::net::unix::OwnedReadHalf;
    use tokio::sync::mpsc;

    /// Longest wait for what takes a moment.
    const LONGEST: Duration = Duration::from_secs(60);

    async fn next(asked: &mut mpsc::Receiver<PendingCommand>) -> PendingCommand {
        let next = tokio::time::timeout(LONGEST, asked.recv()).await;
        next.expect("a command waits behind another").unwrap()
    }

    fn accept(asked: PendingCommand) {
        let message = String::new();
        asked.reply.send(Reply::Accepted { message, step: 0 }).unwrap();
    }

    /// Returns the id of the next reply.
    async fn replied(lines: &mut BoundedLines<OwnedReadHalf>) -> String {
        let line = lines.next_line().await.unwrap().unwrap();
        match serde_json::from_str(&line).unwrap() {
            ServerMessage::Reply { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    /// On a disk that does not answer, an order is not answered either. Commands of one connection come in turn.
    #[tokio::test]
    async fn l10_a_stop_does_not_wait_behind_what_its_connection_has_asked_before() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        let (recorder, _thread) = Recorder::start(&home.database()).unwrap();
        let (prompt, mut asked) = mpsc::channel(8);
        let (patient, _patient) = mpsc::channel(8);
        let probe = Roster::default().add("gateway", "");
        let gateway = open(&home, recorder, CommandQueues { prompt, patient }, probe).unwrap();
        let socket = home.socket().unwrap();
        let (input, mut client) = UnixStream::connect(&socket).await.unwrap().into_split();
        let mut lines = BoundedLines::new(input);
        let commands = [
            ("follow", Command::Follow { recent: 1 }),
            ("pause", Command::Pause),
            ("checkpoint", Command::Checkpoint),
            ("stop", Command::Stop),
        ];
        for (id, command) in commands {
            let message = ClientMessage {
                id: id.to_owned(),
                protocol: PROTOCOL,
                by: "me".to_owned(),
                command,
            };
            let line = serde_json::to_string(&message).unwrap() + "\n";
            client.write_all(line.as_bytes()).await.unwrap();
        }
        accept(next(&mut asked).await);
        let (one, other) = (next(&mut asked).await, next(&mut asked).await);
        let (pause, stop) = match one.message.command {
            Command::Pause => (one, other),
            _ => (other, one),
        };
        let ids = [&pause, &stop].map(|asked| asked.message.id.as_str());
        assert_eq!(ids, ["pause", "stop"]);
        accept(stop);
        assert_eq!(replied(&mut lines).await, "follow");
        assert_eq!(replied(&mut lines).await, "stop");
        accept(pause);
        accept(next(&mut asked).await);
        assert_eq!(replied(&mut lines).await, "pause");
        assert_eq!(replied(&mut lines).await, "checkpoint");
        gateway.abort();
        std::fs::remove_file(socket).ok();
    }
}
