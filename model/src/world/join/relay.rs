//! The thread that keeps an engine joined: it dials the daemon, answers its beats, and carries lines between the daemon
//! and the engine's server.
//!
//! A daemon that is gone is dialled again for a stated time (law L10), with the join file read anew, since a new daemon
//! writes another. After that the engine leaves with [`PEER_LOST`], and so does its world.

use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use demask_api::join::{
    BEAT, DaemonWord, EngineWord, Farewell, GREETING_LIMIT, Greeting, JoinFile, JoinPurpose, JoiningEngine,
    LONGEST_WORD, MOST_LINES, SILENCE,
};
use demask_api::{Answer, PROTOCOL, Request, wire};
use tokio::io::{AsyncWriteExt as _, ReadHalf, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::clients::ClientGiver;
use super::pinned;
use crate::world::exit::{FAULT, PEER_LOST, leave};

/// Exit code of an engine whose daemon does not want it as it is.
const REFUSED: i32 = 1;
/// Time between two attempts to reach the daemon.
const RETRY: Duration = Duration::from_millis(500);
/// Time in which the server must take the request to end.
const TAKEN: Duration = Duration::from_secs(60);
/// Time for the last answers to reach the daemon.
const DRAIN: Duration = Duration::from_secs(5);

type Connection = TlsStream<TcpStream>;

/// The daemon that an engine joins, and the role in which it joins.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Path of the join file.
    pub file: PathBuf,
    /// Time in which the engine tries to reach the daemon, at the start and after the connection was lost.
    pub patience: Duration,
    /// The engine's description of itself.
    pub engine: JoiningEngine,
}

/// The running thread.
#[derive(Debug)]
pub struct Relay {
    thread: JoinHandle<()>,
    end: watch::Sender<bool>,
}

impl Relay {
    /// Starts the thread, which hands lines to a server.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn start(joining: Joining, clients: ClientGiver) -> Result<Self> {
        let (end, ended) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let _guard = LeavesOnPanic;
            runtime.block_on(keep(&joining, &clients, ended));
        })?;
        Ok(Self { thread, end })
    }

    /// Waits until the last answers are on their way, and closes the connection.
    pub fn end(self) {
        self.end.send_replace(true);
        self.thread.join().ok();
    }
}

/// Ends the process if its thread panics: without a relay nobody could reach the engine any more.
struct LeavesOnPanic;

impl Drop for LeavesOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            leave(FAULT, &"the relay panicked");
        }
    }
}

/// The orderly end of a connection.
enum Parted {
    /// This process is ending.
    Asked,
    /// The daemon wants this process to end.
    Told(Farewell, String),
}

/// Keeps the engine joined until the process ends.
async fn keep(joining: &Joining, clients: &ClientGiver, mut end: watch::Receiver<bool>) {
    let (mut reached, mut said) = (Instant::now(), String::new());
    loop {
        let why = match attend(joining, clients, &mut end, &mut reached).await {
            Ok(Parted::Asked) => return,
            Ok(Parted::Told(farewell, why)) => {
                let why = format!("the daemon says: {why}");
                match farewell {
                    Farewell::Done => return exit(clients, &why).await,
                    Farewell::Again => leave(PEER_LOST, &why),
                    Farewell::Refused => leave(REFUSED, &why),
                }
            }
            Err(error) => error.to_string(),
        };
        let (file, seconds) = (joining.file.display(), joining.patience.as_secs());
        if reached.elapsed() >= joining.patience {
            let why = format!("the daemon of {file} could not be reached within {seconds} s: {why}");
            leave(PEER_LOST, &why);
        }
        if why != said {
            tracing::warn!("the daemon of {file}: {why}; retrying for {seconds} s");
            said = why;
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            _ = end.wait_for(|&ended| ended) => return,
        }
    }
}

/// Asks the own server to end, and with it the other ranks of its world, as a client would.
async fn exit(clients: &ClientGiver, why: &str) {
    tracing::info!("{why}");
    let began = Instant::now();
    loop {
        match ask_to_end(clients).await {
            // The server has as many clients as it may have, and the daemon's are leaving.
            Ok(Some(Answer::Failed(_))) if began.elapsed() < TAKEN => sleep(RETRY).await,
            Ok(Some(Answer::Failed(refusal))) => leave(FAULT, &refusal),
            Ok(_) => return,
            Err(error) => leave(FAULT, &error),
        }
    }
}

/// Sends the server a request to end. Returns its answer; `None` if it has ended without one.
async fn ask_to_end(clients: &ClientGiver) -> Result<Option<Answer>> {
    let client = clients.connect()?;
    client.set_nonblocking(true)?;
    let mut client = UnixStream::from_std(client)?;
    let asked = wire::write_async(&mut client, &Request::Exit).await;
    // A server that refuses a client does so before it reads anything.
    match wire::read_async(&mut client).await {
        Ok(Some(answer)) => Ok(Some(answer)),
        _ => asked.map(|()| None),
    }
}

/// Joins once, and stays until one side ends. `reached` is set to the last moment at which the daemon was there.
async fn attend(
    joining: &Joining,
    clients: &ClientGiver,
    end: &mut watch::Receiver<bool>,
    reached: &mut Instant,
) -> Result<Parted> {
    let file = JoinFile::read(&joining.file)?;
    if file.protocol != PROTOCOL {
        let other = file.protocol;
        return Err(Error::other(format!(
            "it speaks protocol {other}, but this engine speaks {PROTOCOL}"
        )));
    }
    let first = JoinPurpose::Join(joining.engine.clone());
    let (input, mut output) = split(dial(&file, first).await?);
    let (words, mut heard) = mpsc::channel(1);
    let mut work = JoinSet::new();
    work.spawn(hear(input, words));
    let (mut beat, mut last, mut session) = (interval(BEAT), Instant::now(), None);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            word = heard.recv() => {
                last = Instant::now();
                match word.unwrap_or_else(|| Err(closed(session))).map_err(|error| told(error, session))? {
                    DaemonWord::Beat => {}
                    DaemonWord::Leave { farewell, why } => return Ok(Parted::Told(farewell, why)),
                    DaemonWord::Welcome { session: number } => {
                        session = Some(number);
                        tracing::info!("joined the daemon at {}:{}, as session {number}", file.host, file.port);
                    }
                    // One of them is the hearing above.
                    DaemonWord::Dial { line } if work.len() <= MOST_LINES => {
                        let session = session.unwrap_or_default();
                        let purpose = JoinPurpose::Line { session, line };
                        work.spawn(carry(file.clone(), purpose, clients.connect()?));
                    }
                    DaemonWord::Dial { .. } => tracing::warn!("the daemon asks for more than {MOST_LINES} connections"),
                }
                if session.is_some() {
                    *reached = last;
                }
            }
            _ = beat.tick() => {
                let limit = if session.is_some() { SILENCE } else { GREETING_LIMIT };
                if last.elapsed() > limit {
                    return Err(Error::other(format!("it has sent nothing for {} s", limit.as_secs())));
                }
                within(SILENCE, wire::write_async(&mut output, &EngineWord::Beat)).await?;
            }
            Some(_) = work.join_next() => {}
            _ = end.wait_for(|&ended| ended) => {
                // The server has ended and closed its lines. What is left is on its way; the hearing never ends by
                // itself.
                let drained = async { while work.len() > 1 && work.join_next().await.is_some() {} };
                timeout(DRAIN, drained).await.ok();
                timeout(DRAIN, output.shutdown()).await.ok();
                return Ok(Parted::Asked);
            }
        }
    }
}

/// Reads the daemon's words until the connection ends.
async fn hear(mut input: ReadHalf<Connection>, words: mpsc::Sender<Result<DaemonWord>>) {
    while let Some(word) = wire::read_within(&mut input, LONGEST_WORD).await.transpose() {
        let is_over = word.is_err();
        if words.send(word).await.is_err() || is_over {
            return;
        }
    }
}

/// Says why the daemon may have closed the first connection.
fn closed(session: Option<u64>) -> Error {
    let why = match session {
        Some(_) => "it closed the connection",
        None => {
            "it closed the connection without an answer, which happens if the token in the join file is wrong"
        }
    };
    Error::new(ErrorKind::UnexpectedEof, why)
}

/// Says of a connection that broke before the daemon's first word what it means.
fn told(error: Error, session: Option<u64>) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => closed(session),
        _ => error,
    }
}

/// Opens a connection for a purpose.
async fn dial(file: &JoinFile, purpose: JoinPurpose) -> Result<Connection> {
    let (connector, name) = pinned::connector(&file.certificate).map_err(Error::other)?;
    let dialling =
        async {
            let stream = TcpStream::connect((file.host.as_str(), file.port)).await?;
            stream.set_nodelay(true)?;
            let mut stream = connector.connect(name, stream).await.map_err(|error| {
                match pinned::is_other_daemon(&error) {
                    true => Error::other("its certificate is not the one in the join file"),
                    false => error,
                }
            })?;
            let token = file.token.clone();
            wire::write_async(&mut stream, &Greeting { token, purpose }).await?;
            Ok(stream)
        };
    within(GREETING_LIMIT, dialling).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || {
        Error::new(
            ErrorKind::TimedOut,
            format!("it sent no answer within {} s", limit.as_secs()),
        )
    };
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

/// Dials a line and carries what goes over it, until the engine closes its end.
async fn carry(file: JoinFile, purpose: JoinPurpose, engine: std::os::unix::net::UnixStream) {
    let carrying = async {
        engine.set_nonblocking(true)?;
        let (mut from_engine, mut to_engine) = UnixStream::from_std(engine)?.into_split();
        let (mut from_client, mut to_client) = split(dial(&file, purpose).await?);
        // A client that has closed its end may still wait for an answer, so the other direction goes on.
        let inwards = async {
            copy(&mut from_client, &mut to_engine).await.ok();
            to_engine.shutdown().await.ok();
            std::future::pending::<()>().await;
        };
        let outwards = async {
            copy(&mut from_engine, &mut to_client).await?;
            to_client.shutdown().await
        };
        tokio::select! {
            done = outwards => done,
            () = inwards => Ok(()),
        }
    };
    if let Err(error) = carrying.await {
        tracing::warn!("a connection to the daemon failed: {error}");
    }
}
