//! A blocking connection to the daemon.

use demask_actors::control::client::Client;
use demask_actors::home::Home;
use demask_storage::{Command, Envelope, Reply, ServerMessage};
use tokio::runtime::Runtime;

use crate::terminal::print;

/// A blocking connection to the daemon.
pub struct Line {
    home: Home,
    runtime: Runtime,
    client: Client,
    /// Sequence number of the last durable event that was read; before the first one, the number after which events
    /// were requested.
    seen: u64,
}

impl Line {
    /// Sends a command and returns the reply.
    ///
    /// # Errors
    /// An error if the daemon goes away.
    pub fn ask(&mut self, command: Command) -> anyhow::Result<Reply> {
        Ok(self.runtime.block_on(self.client.ask(command))?)
    }

    /// Subscribes to the events after this sequence number; with 0, to those from now on.
    ///
    /// # Errors
    /// An error if the daemon goes away.
    pub fn subscribe(&mut self, since: u64) -> anyhow::Result<()> {
        self.ask(Command::Subscribe { since })?;
        self.seen = since;
        Ok(())
    }

    /// Returns the next event after [`Self::subscribe`]. No durable event is left out, however slowly they are read.
    ///
    /// # Errors
    /// An error if the daemon goes away.
    pub fn event(&mut self) -> anyhow::Result<Envelope> {
        loop {
            match self.runtime.block_on(self.client.next())? {
                ServerMessage::Event(envelope) => {
                    // A live event may carry the number of a durable event that is still to come.
                    if envelope.record.is_durable() {
                        self.seen = self.seen.max(envelope.seq);
                    }
                    return Ok(envelope);
                }
                ServerMessage::Lagged { missed, .. } => self.catch_up(missed)?,
                ServerMessage::Reply { .. } => {}
            }
        }
    }

    /// Requests the events that the daemon dropped because the client was slow. A connection carries one stream, so a
    /// new connection is opened.
    fn catch_up(&mut self, missed: u64) -> anyhow::Result<()> {
        print::note(&format!(
            "{missed} events were missed, because they came faster than they were read; the stored ones follow"
        ));
        self.client = self.runtime.block_on(Client::connect(&self.home, "cli"))?;
        self.subscribe(self.seen)
    }
}

/// Connects to the daemon of a home, which must answer at once; `reach.rs` waits for it.
///
/// # Errors
/// An error if no daemon is running.
pub fn connect(home: &Home) -> anyhow::Result<Line> {
    let runtime = crate::model::engine::runtime()?;
    let client = runtime.block_on(Client::connect(home, "cli"))?;
    Ok(Line {
        home: home.clone(),
        runtime,
        client,
        seen: 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_storage::{ClientMessage, Metric, PROTOCOL, Record, RunEnd};
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn say(stream: &mut UnixStream, message: &ServerMessage) {
        writeln!(stream, "{}", serde_json::to_string(message).unwrap()).unwrap();
    }

    /// Accepts a client as the gateway does. Returns the sequence number that it subscribes from, and the stream for
    /// the events.
    fn subscriber(listener: &UnixListener) -> (u64, UnixStream) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ClientMessage { id, command, .. } = serde_json::from_str(&line).unwrap();
        let Command::Subscribe { since } = command else {
            unreachable!("{line}")
        };
        let message = "subscribed".to_owned();
        let reply = Reply::Accepted { message, step: 0 };
        let version = String::new();
        say(
            &mut stream,
            &ServerMessage::Reply {
                id,
                protocol: PROTOCOL,
                version,
                reply,
            },
        );
        (since, stream)
    }

    fn end(seq: u64) -> ServerMessage {
        let [run, reason] = ["r", ""].map(str::to_owned);
        let status = demask_storage::RunState::Done;
        let record = Record::RunEnd(RunEnd { run, status, reason });
        ServerMessage::Event(Envelope {
            seq,
            at_us: 0,
            record,
        })
    }

    #[test]
    fn who_was_too_slow_reads_on_from_the_last_durable_event() {
        // Only the path matters, because the name of the socket is derived from it.
        let root = std::env::temp_dir().join(format!("demask-line-{}", std::process::id()));
        let home = Home::open(Some(root)).unwrap();
        let socket = home.socket().unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (since, mut stream) = subscriber(&listener);
            say(&mut stream, &end(8));
            let (run, values) = ("r".to_owned(), Vec::new());
            let record = Record::Metric(Metric { run, step: 1, values });
            let live = Envelope {
                seq: 9,
                at_us: 0,
                record,
            };
            say(&mut stream, &ServerMessage::Event(live));
            say(&mut stream, &ServerMessage::Lagged { missed: 3, next: 12 });
            let (again, mut stream) = subscriber(&listener);
            say(&mut stream, &end(9));
            (since, again)
        });
        let mut line = connect(&home).unwrap();
        line.subscribe(7).unwrap();
        let read: Vec<u64> = (0..3).map(|_| line.event().unwrap().seq).collect();
        assert_eq!(
            read,
            [8, 9, 9],
            "a durable one, a live one, and the one that was missed"
        );
        assert_eq!(daemon.join().unwrap(), (7, 8));
        std::fs::remove_file(socket).ok();
    }
}
