//! Commands to the daemon: `ps`, `pause`, `resume`, `stop`, `checkpoint`, `set`.

use std::process::ExitCode;

use demask_actors::client::Client;
use demask_actors::home::Home;
use demask_storage::{Command, Envelope, Overview, Reply, ServerMessage};
use tokio::runtime::Runtime;

use crate::{UsageError, print, reach};

/// `demask pause`.
pub fn pause() -> Command {
    Command::Pause
}

/// `demask resume`.
pub fn resume() -> Command {
    Command::Resume
}

/// `demask stop`.
pub fn stop() -> Command {
    Command::Stop
}

/// `demask checkpoint`.
pub fn checkpoint() -> Command {
    Command::Checkpoint
}

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
    let runtime = crate::studio::runtime()?;
    let client = runtime.block_on(Client::connect(home, "cli"))?;
    Ok(Line {
        home: home.clone(),
        runtime,
        client,
        seen: 0,
    })
}

/// Sends a command and says what the daemon made of it.
///
/// # Errors
/// No daemon.
pub fn send(home: &Home, command: Command, json: bool) -> anyhow::Result<ExitCode> {
    let reply = reach::connect(home)?.ask(command)?;
    if json {
        print::json(&reply)?;
    }
    match reply {
        Reply::Refused { message } if !json => {
            print::note(&format!("demask: {message}"));
            Ok(ExitCode::from(crate::FAILED))
        }
        Reply::Refused { .. } => Ok(ExitCode::from(crate::FAILED)),
        Reply::Accepted { message, step } if !json => {
            println!("{message} (asked at step {step})");
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// `demask set KEY=VALUE`.
///
/// # Errors
/// Not KEY=VALUE; no daemon.
pub fn set(home: &Home, assignment: &str, json: bool) -> anyhow::Result<ExitCode> {
    let (key, value) = assignment.split_once('=').ok_or_else(|| {
        UsageError(format!(
            "'{assignment}': expected KEY=VALUE, for example learning_rate=0.0003"
        ))
    })?;
    send(
        home,
        Command::Set {
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        },
        json,
    )
}

/// `demask ps`.
///
/// # Errors
/// No daemon.
pub fn ps(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let mut client = reach::connect(home)?;
    let (status, actors) = (client.ask(Command::Status)?, client.ask(Command::Actors)?);
    let (Reply::Status(overview), Reply::Actors { actors }) = (status, actors) else {
        anyhow::bail!("the daemon did not say where it is");
    };
    if json {
        print::json(&serde_json::json!({ "overview": overview, "actors": actors }))?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&overview);
    let rows: Vec<Vec<String>> = actors
        .iter()
        .map(|actor| {
            let state = format!("{:?}", actor.state).to_lowercase();
            let queue = format!("{}/{}", actor.queue.0, actor.queue.1);
            vec![
                actor.name.clone(),
                state,
                queue,
                actor.restarts.to_string(),
                actor.handled.to_string(),
                actor.detail.clone(),
            ]
        })
        .collect();
    println!();
    print::table(
        &["actor", "state", "queue", "restarts", "handled", "doing"],
        &rows,
    )?;
    if !overview.knobs.is_empty() {
        let rows: Vec<Vec<String>> = overview
            .knobs
            .iter()
            .map(|knob| {
                vec![
                    knob.key.clone(),
                    knob.value.clone(),
                    knob.allowed.clone(),
                    knob.help.clone(),
                ]
            })
            .collect();
        println!();
        print::table(&["knob", "value", "allowed", ""], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line on where a run is.
pub fn line(overview: &Overview) -> String {
    if overview.run.is_empty() {
        return "no run".to_owned();
    }
    overview.headline()
}

fn show(overview: &Overview) {
    println!("{}", line(overview));
    if !overview.run.is_empty() {
        println!(
            "run {}{}",
            overview.run,
            if overview.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", overview.detail)
            }
        );
    }
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
        let [run, status, reason] = ["r", "done", ""].map(str::to_owned);
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
        let root = std::env::temp_dir().join(format!("demask-control-{}", std::process::id()));
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
