//! The client of the control socket, which the command line and the dashboard use.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::home::{Home, HomeError};
use crate::runtime::ids;

/// Longest wait for replies that the daemon gives from memory.
const PROMPT: Duration = Duration::from_secs(5);

/// Longest wait for replies that the disk confirms.
const CONFIRMED: Duration = Duration::from_secs(30);

/// The reason why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens on the socket.
    #[error("no daemon is running for {home}: `demask run` or `demask daemon start` starts one")]
    NotRunning {
        /// The home.
        home: String,
        /// The system's error, for callers that know that a daemon is running.
        cause: io::Error,
    },
    /// The folder of the socket cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The socket exists but does not accept this process.
    #[error("cannot talk to the daemon through {}: {cause}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the daemon was lost: {0}")]
    Gone(#[from] io::Error),
    /// The daemon accepts the connection and does not reply.
    #[error(
        "the daemon{} has not answered within {} s: {}",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        limit.as_secs(),
        advice
    )]
    Silent {
        /// Process id of the daemon, where the system reports it.
        pid: Option<i32>,
        /// How long the client has waited.
        limit: Duration,
        /// What the daemon is doing, and what the user can do.
        advice: String,
    },
    /// The daemon replies to other commands, but not to this one, which waits for the disk.
    #[error(
        "the daemon has not acknowledged the command within {} s, because its row is not on the disk ({state}): it may take \
         effect or not, and `demask ps` shows what did; the daemon answers, so let it run",
        limit.as_secs()
    )]
    Unconfirmed {
        /// How long the client has waited.
        limit: Duration,
        /// The state of the daemon's run.
        state: String,
    },
    /// The daemon speaks another protocol.
    #[error(
        "the daemon (demask {version}) speaks control protocol {found}, but this demask speaks {PROTOCOL}: stop the daemon with its own version of demask and start it again"
    )]
    Protocol {
        /// Version of the daemon.
        version: String,
        /// Protocol of the daemon.
        found: u32,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    home: Home,
    from: String,
    by: String,
    pid: Option<i32>,
    /// Events that arrived while a reply was awaited.
    early: std::collections::VecDeque<ServerMessage>,
}

impl Client {
    /// Connects to the daemon of a home. `from` is `cli` or `dashboard`; the audit row stores it beside the user's
    /// name.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], which a later attempt may not meet; [`ClientError::Home`] and
    /// [`ClientError::Refused`], which waiting does not cure.
    pub async fn connect(home: &Home, from: &str) -> Result<Self, ClientError> {
        let socket = home.socket()?;
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|cause| match cause.kind() {
                // In turn: there is no socket, no process listens, or the queue of pending connections is full.
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock => {
                    let home = home.root().display().to_string();
                    ClientError::NotRunning { home, cause }
                }
                _ => ClientError::Refused { socket, cause },
            })?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (read, writer) = stream.into_split();
        let by = who(from);
        Ok(Self {
            lines: BufReader::new(read).lines(),
            writer,
            home: home.clone(),
            from: from.to_owned(),
            by,
            pid,
            early: Default::default(),
        })
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Errors
    /// [`ClientError::Gone`], [`ClientError::Silent`] or [`ClientError::Protocol`].
    pub async fn ask(&mut self, command: Command) -> Result<Reply, ClientError> {
        if limit(&command) > PROMPT {
            // L10: a status request first, so that a daemon that does not reply at all is noticed within seconds
            // whatever the command.
            self.ask_as(new_id(), Command::Status).await?;
        }
        self.ask_as(new_id(), command).await
    }

    /// Sends a command under an id of the caller, as [`Self::ask`] does. A command that is sent twice under one id is
    /// done once.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_as(&mut self, id: String, command: Command) -> Result<Reply, ClientError> {
        let limit = limit(&command);
        let asked = tokio::time::timeout(limit, self.answered(id, command)).await;
        match asked {
            Ok(answered) => answered,
            Err(_) if limit == CONFIRMED => Err(self.unconfirmed(limit).await),
            Err(_) => Err(self.silent(limit)),
        }
    }

    fn silent(&self, limit: Duration) -> ClientError {
        ClientError::Silent {
            pid: self.pid,
            limit,
            advice: silence_advice(self.pid),
        }
    }

    /// Says why a command that waits for the disk was not answered. A daemon that gives its status is not silent. The
    /// present connection still waits for the reply, so another one asks.
    async fn unconfirmed(&self, limit: Duration) -> ClientError {
        let asked = async {
            let mut beside = Self::connect(&self.home, &self.from).await?;
            beside.answered(new_id(), Command::Status).await
        };
        match tokio::time::timeout(PROMPT, asked).await {
            Ok(Ok(Reply::Status(overview))) => ClientError::Unconfirmed {
                limit,
                state: match overview.detail.is_empty() {
                    true => format!("the run is {}", overview.state),
                    false => format!("the run is {}: {}", overview.state, overview.detail),
                },
            },
            _ => self.silent(limit),
        }
    }

    async fn answered(&mut self, id: String, command: Command) -> Result<Reply, ClientError> {
        let message = ClientMessage {
            id: id.clone(),
            protocol: PROTOCOL,
            by: self.by.clone(),
            command,
        };
        let mut line = serde_json::to_string(&message).map_err(io::Error::other)?;
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await?;
        loop {
            match self.read().await? {
                ServerMessage::Reply {
                    protocol, version, ..
                } if protocol != PROTOCOL => {
                    return Err(ClientError::Protocol {
                        version,
                        found: protocol,
                    });
                }
                ServerMessage::Reply { id: found, reply, .. } if found == id => return Ok(reply),
                other => self.early.push_back(other),
            }
        }
    }

    /// Returns the next event after a `Subscribe`. A pending call may be dropped and repeated.
    ///
    /// # Errors
    /// [`ClientError::Gone`].
    pub async fn next(&mut self) -> Result<ServerMessage, ClientError> {
        match self.early.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<ServerMessage, ClientError> {
        let line = self.lines.next_line().await?;
        let line = line.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "its socket closed"))?;
        Ok(serde_json::from_str(&line).map_err(io::Error::other)?)
    }
}

fn new_id() -> String {
    ids::new_id().to_string()
}

/// Returns how long a daemon may take to reply (law L10). Status commands are answered from memory. A stop is taken in
/// memory and its reply says whether the disk has it. Other orders wait for the disk, and a query waits for its result.
fn limit(command: &Command) -> Duration {
    match command {
        Command::Status | Command::Actors | Command::Stop => PROMPT,
        // A client that shuts down a silent daemon goes on to kill it, and the whole may take no longer than `PROMPT`.
        Command::Shutdown => PROMPT - Duration::from_secs(1),
        Command::Subscribe { .. } | Command::Follow { .. } => PROMPT,
        Command::Query { .. } => Duration::from_secs(45),
        // It may have to wait for a training step before it is sampled.
        Command::Ask { .. } => Duration::from_secs(600),
        _ => CONFIRMED,
    }
}

/// Says what a user can do about a daemon that does not reply.
fn silence_advice(pid: Option<i32>) -> String {
    let Some(pid) = pid else {
        return "it does not respond; kill its process, and the next daemon continues the run".into();
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the process name, which stands in brackets and may contain any character.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('T' | 't') => format!("its process is suspended; `kill -CONT {pid}` resumes it"),
        Some('D') => "it is waiting for the disk".into(),
        _ => format!(
            "`kill {pid}` ends it, `kill -9 {pid}` ends it at once; the next daemon continues the run"
        ),
    }
}

/// Returns who gives a command, for the audit row: the user's name in the environment, else the id of the user that
/// this process runs as. Containers without user names have the id too.
#[must_use]
pub fn who(client: &str) -> String {
    let named = ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok());
    let user = named
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty());
    // SAFETY: `getuid` has no preconditions and cannot fail.
    let user = user.unwrap_or_else(|| format!("user {}", unsafe { libc::getuid() }));
    format!("{user} ({client})")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::Control;
    use tokio::net::UnixListener;

    /// Plays a daemon whose disk hangs: it gives its status, and acknowledges nothing.
    async fn serve(stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: ClientMessage = serde_json::from_str(&line).unwrap();
            if message.command == Command::Status {
                let mut overview = Control::default().overview();
                overview.detail = "the disk has not answered for 31 s".into();
                let reply = ServerMessage::Reply {
                    id: message.id,
                    protocol: PROTOCOL,
                    version: String::new(),
                    reply: Reply::Status(Box::new(overview)),
                };
                let line = serde_json::to_string(&reply).unwrap() + "\n";
                write.write_all(line.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn l10_a_daemon_that_answers_without_its_disk_is_not_to_be_killed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        let socket = home.socket().unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        let mut client = Client::connect(&home, "test").await.unwrap();
        let error = client.ask(Command::Pause).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ClientError::Unconfirmed { .. }), "{said}");
        assert!(
            said.contains("the disk has not answered for 31 s") && !said.contains("kill"),
            "{said}"
        );
        daemon.abort();
        std::fs::remove_file(socket).ok();
    }
}
