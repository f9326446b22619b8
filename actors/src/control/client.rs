//! The control socket's other end, as the command line and the dashboard use it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::home::{Home, HomeError};
use crate::runtime::ids;

/// How long a daemon may take for what it answers from memory.
const PROMPT: Duration = Duration::from_secs(5);

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon is running for {home}: `demask run` or `demask daemon start` starts one")]
    NotRunning {
        /// The home.
        home: String,
        /// The system's words, for who knows that there is a daemon.
        cause: io::Error,
    },
    /// The folder of its socket cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its socket is there and does not take this process.
    #[error("cannot talk to the daemon through {}: {cause}", socket.display())]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The connection broke.
    #[error("the daemon went away: {0}")]
    Gone(#[from] io::Error),
    /// It is there and says nothing.
    #[error(
        "the daemon{} has not answered within {} s: {}",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        limit.as_secs(),
        advice
    )]
    Silent {
        /// Its process, where the system says whose the socket is.
        pid: Option<i32>,
        /// How long it was waited for.
        limit: Duration,
        /// What it is doing, and what a person can do.
        advice: String,
    },
    /// It speaks another protocol.
    #[error(
        "the daemon (demask {version}) speaks control protocol {found}, this demask {PROTOCOL}: stop it with its own version and start it again"
    )]
    Protocol {
        /// Its version.
        version: String,
        /// Its protocol.
        found: u32,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    by: String,
    pid: Option<i32>,
    /// Events that came while a reply was awaited.
    early: std::collections::VecDeque<ServerMessage>,
}

impl Client {
    /// Connects; `from` is `cli` or `dashboard` and stands in the audit row beside the user's name.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`]; [`ClientError::Home`], [`ClientError::Refused`], which waiting does not mend.
    pub async fn connect(home: &Home, from: &str) -> Result<Self, ClientError> {
        let socket = home.socket()?;
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|cause| match cause.kind() {
                // There is no socket; nobody listens; those who wait for an answer are too many.
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
            by,
            pid,
            early: Default::default(),
        })
    }

    /// Asks and waits for the reply.
    ///
    /// # Errors
    /// [`ClientError::Gone`], [`ClientError::Protocol`].
    pub async fn ask(&mut self, command: Command) -> Result<Reply, ClientError> {
        if limit(&command) > PROMPT {
            // L10: one that says nothing at all is told of within seconds, whatever was asked.
            self.ask_as(new_id(), Command::Status).await?;
        }
        self.ask_as(new_id(), command).await
    }

    /// As [`Self::ask`], under an id of the caller's: asked twice, done once.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_as(&mut self, id: String, command: Command) -> Result<Reply, ClientError> {
        let limit = limit(&command);
        let asked = tokio::time::timeout(limit, self.answered(id, command)).await;
        asked.unwrap_or_else(|_| {
            Err(ClientError::Silent {
                pid: self.pid,
                limit,
                advice: silence_advice(self.pid),
            })
        })
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

    /// The next event after a `Subscribe`. Safe to drop and call again.
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

/// How long a daemon may take to answer (law L10): what looks is answered from memory, what is ordered waits for the disk, a query
/// for itself.
fn limit(command: &Command) -> Duration {
    match command {
        Command::Status | Command::Actors => PROMPT,
        // Whoever asks for it goes on to end a daemon by force that says nothing, and all that takes no longer.
        Command::Shutdown => PROMPT - Duration::from_secs(1),
        Command::Subscribe { .. } | Command::Follow { .. } => PROMPT,
        Command::Query { .. } => Duration::from_secs(45),
        // It may have to wait for a step of training, and is then sampled.
        Command::Ask { .. } => Duration::from_secs(600),
        _ => Duration::from_secs(30),
    }
}

/// What a person can do about a daemon that says nothing.
fn silence_advice(pid: Option<i32>) -> String {
    let Some(pid) = pid else {
        return "it hangs; end its process, and the next one goes on with the run".into();
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, in brackets.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    match state {
        Some('T' | 't') => format!("it is stopped; `kill -CONT {pid}` lets it go on"),
        Some('D') => "it waits for the disk".into(),
        _ => format!("`kill {pid}` ends it, `kill -9 {pid}` at once; the next daemon goes on with the run"),
    }
}

/// Who gives a command, for the audit row: the name of the person in the environment, else the number of the user that
/// this process runs as, which a container without names has too.
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
