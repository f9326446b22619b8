//! A connection to the daemon, for code that waits for it.

use demask_actors::control::client::Client;
use demask_actors::home::Home;
use demask_storage::{Command, Envelope, Reply, ServerMessage};
use tokio::runtime::Runtime;

use crate::terminal::print;

/// A connection to the daemon, for code that waits.
pub struct Line {
    home: Home,
    runtime: Runtime,
    client: Client,
    /// The last durable event that was read; before the first, the one after which the events were asked for.
    seen: u64,
}

impl Line {
    /// Asks one thing.
    ///
    /// # Errors
    /// The daemon went away.
    pub fn ask(&mut self, command: Command) -> anyhow::Result<Reply> {
        Ok(self.runtime.block_on(self.client.ask(command))?)
    }

    /// Asks for the events after this sequence number; 0: for those from now on.
    ///
    /// # Errors
    /// The daemon went away.
    pub fn subscribe(&mut self, since: u64) -> anyhow::Result<()> {
        self.ask(Command::Subscribe { since })?;
        self.seen = since;
        Ok(())
    }

    /// The next event after [`Self::subscribe`]. No durable one is left out, however slowly they are read.
    ///
    /// # Errors
    /// The daemon went away.
    pub fn event(&mut self) -> anyhow::Result<Envelope> {
        loop {
            match self.runtime.block_on(self.client.next())? {
                ServerMessage::Event(envelope) => {
                    // What is only shown live may carry the number of an event that is yet to come.
                    if envelope.record.durable() {
                        self.seen = self.seen.max(envelope.seq);
                    }
                    return Ok(envelope);
                }
                ServerMessage::Lagged { missed, .. } => self.catch_up(missed)?,
                ServerMessage::Reply { .. } => {}
            }
        }
    }

    /// Asks again for what the daemon could not wait to send: a connection carries one stream, so on another one.
    fn catch_up(&mut self, missed: u64) -> anyhow::Result<()> {
        print::note(&format!(
            "{missed} events were missed, they came faster than they were read; those that are kept follow now"
        ));
        self.client = self.runtime.block_on(Client::connect(&self.home, "cli"))?;
        self.subscribe(self.seen)
    }
}

/// Connects to the daemon of a home, which must answer by now; `reach.rs` waits for it.
///
/// # Errors
/// No daemon.
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

    /// Takes a client in, as the gateway does; after which event it asks for events, and where they go.
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
        // Only the name matters: of it the socket's is made.
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
