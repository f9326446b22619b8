//! The socket server. It serves several clients, each with one request at a time, in the order of arrival.
//! There are two exceptions: sampling requests share a running batch ([`crate::engine::sample_requests`]),
//! and aside requests run between two of its forward passes or between two micro-batches of a training step.
//!
//! Except for a request to exit, no input of a client ends the engine: it answers every request, or
//! disconnects the client. A device failure ends it, after the client has been told.
//!
//! One thread per client reads requests. The thread that calls [`serve`] does all computing, or waits for it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use demask_api::{Answer, EngineError, Request, SampleRequest, wire};
use tch::TchError;

use crate::device::heartbeat;
use crate::engine::aside::{AsideDesk, Bystanders};
use crate::engine::dispatch::Engine;
use crate::engine::process::fault::Fault;
use crate::engine::process::shutdown::{ShutdownSignal, UntilAsked};
use crate::error::{ModelError, Result, of_libtorch};
use crate::world::join::clients::Clients;

/// The largest number of clients, and so of waiting requests (law L2). A client beyond it is refused and
/// disconnected.
const CLIENTS: usize = 64;
/// How long a client may leave an answer unread before it is disconnected. No other client is served
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// The reason why serving ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A client or a signal asked for the end.
    Asked,
    /// The device failed, with libtorch's message. Nothing works on it in this process any more, not even an
    /// orderly shutdown.
    DeviceFailed(String),
}

/// Serves until a client asks to exit, the process is asked to end or the device fails. Requests that have
/// arrived by then are still answered, except those behind an exit request or a device failure, whose
/// connections close.
///
/// # Errors
/// Returns the socket's errors.
pub fn serve(
    engine: &mut Engine,
    path: &Path,
    shutdown: &ShutdownSignal,
    fault: Fault,
) -> io::Result<Served> {
    let served = serve_clients(engine, Clients::Socket(bind(path)?), shutdown, fault);
    std::fs::remove_file(path).ok();
    served
}

/// Serves clients of any source, as [`serve`] does.
///
/// # Errors
/// Returns the errors of the source.
pub fn serve_clients(
    engine: &mut Engine,
    clients: Clients,
    shutdown: &ShutdownSignal,
    fault: Fault,
) -> io::Result<Served> {
    let (sender, receiver) = channel();
    let present = AtomicUsize::new(0);
    thread::scope(|scope| {
        let present = &present;
        let accepting = scope.spawn(move || accept(scope, &clients, &sender, (present, shutdown)));
        let served = work(engine, Inbox::new(receiver), shutdown, fault);
        accepting.join().unwrap_or(Ok(())).map(|()| served)
    })
}

/// Binds the socket. A stale socket, which nobody serves, is replaced; any other existing file is an error.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let taken = |message: &str| Err(io::Error::new(ErrorKind::AddrInUse, message.to_owned()));
        if !found.file_type().is_socket() {
            return taken("the path exists and is not a socket");
        }
        if UnixStream::connect(path).is_ok() {
            return taken("another engine serves this socket");
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts clients until the process is asked to end.
fn accept<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    clients: &Clients,
    sender: &Sender<Job>,
    (present, shutdown): (&'scope AtomicUsize, &'scope ShutdownSignal),
) -> io::Result<()> {
    while shutdown.wait_for(clients.as_fd())? {
        let stream = match clients.next() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("client: {error}");
                continue;
            }
        };
        if present.load(Ordering::SeqCst) >= CLIENTS {
            let full = format!("the engine already serves {CLIENTS} clients, which is the limit");
            wire::write(&mut &stream, &refused(&full)).ok();
            continue;
        }
        present.fetch_add(1, Ordering::SeqCst);
        let sender = sender.clone();
        scope.spawn(move || {
            if let Err(error) = converse(&stream, &sender, shutdown) {
                tracing::warn!("client: {error}");
            }
            present.fetch_sub(1, Ordering::SeqCst);
        });
    }
    Ok(())
}

/// Passes a client's requests on one by one, each after the previous one has been answered.
fn converse(stream: &UnixStream, sender: &Sender<Job>, shutdown: &ShutdownSignal) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut out = stream;
    let mut input = BufReader::new(UntilAsked::new(stream, shutdown));
    loop {
        let body = match wire::read_frame(&mut input) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return Ok(()),
            Err(error) => {
                // After a malformed frame the beginning of the next one is unknown, so the client is told why
                // and disconnected.
                wire::write(&mut out, &refused(&error)).ok();
                return Err(error);
            }
        };
        match wire::decode::<Request>(&body) {
            // A heartbeat is answered by this thread: it must be answered even if the computing thread hangs
            // (law L10).
            Ok(Request::Heartbeat) => {
                let (beats, busy) = heartbeat::read();
                wire::write(&mut out, &Answer::Heartbeat { beats, busy })?;
            }
            Ok(request) => {
                let (done, answered) = channel();
                let client = Requester {
                    stream: stream.try_clone()?,
                    lost: Cell::new(false),
                    _done: done,
                };
                if sender.send(Job { request, client }).is_err() {
                    return Ok(());
                }
                // Nothing is ever sent on this channel. It closes when the request has been answered or
                // dropped.
                answered.recv().ok();
            }
            Err(error) => wire::write(&mut out, &refused(&error))?,
        }
    }
}

/// A request with the client that waits for its answer.
struct Job {
    request: Request,
    client: Requester,
}

/// The client that waits for an answer. Its next request is read when this value is dropped.
struct Requester {
    stream: UnixStream,
    /// Whether writing to the client has failed.
    lost: Cell<bool>,
    _done: Sender<()>,
}

impl Requester {
    /// Returns whether the client has closed its side or no longer takes what is written.
    fn is_gone(&self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the buffer holds one byte, and the descriptor is open.
        let read = unsafe { libc::recv(self.stream.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
        self.lost.get() || read == 0
    }

    /// Writes an answer. A client that does not take it is disconnected.
    fn write(&self, answer: &Answer) {
        // A device failure is logged first, because whoever reads the answer may kill this process at once.
        if let Answer::Failed(EngineError::Device { message }) = answer {
            tracing::error!("the device failed, so this engine exits: {message}");
        }
        if self.lost.get() {
            return;
        }
        let written = match wire::write(&mut &self.stream, answer) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                wire::write(&mut &self.stream, &refused(&error))
            }
            other => other,
        };
        if let Err(error) = written {
            tracing::warn!("client: {error}");
            self.stream.shutdown(Shutdown::Both).ok();
            self.lost.set(true);
        }
    }
}

/// A request that is handled while a sampling batch runs.
#[allow(clippy::large_enum_variant)] // one at a time
enum Meanwhile {
    /// Samples that join the running batch.
    Join(Vec<SampleRequest>),
    /// An aside request, which runs between two forward passes.
    Aside(Request),
}

/// The requests that have arrived and are not begun.
struct Inbox {
    jobs: Receiver<Job>,
    /// The requests taken from the channel, at most one per client (law L2).
    waiting: VecDeque<Job>,
}

impl Inbox {
    fn new(jobs: Receiver<Job>) -> Self {
        Self {
            jobs,
            waiting: VecDeque::new(),
        }
    }

    /// Waits for the next request. Returns `None` when no client can send one any more.
    fn wait(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.jobs.recv().ok())
    }

    /// Returns the next request if it has arrived and is a sampling or an aside request. Any other request
    /// must wait for the running batch, and so must those behind it.
    fn meanwhile(&mut self) -> Option<(Meanwhile, Requester)> {
        let next = self.waiting.pop_front().or_else(|| self.jobs.try_recv().ok())?;
        match next {
            Job {
                request: Request::Sample { requests },
                client,
            } => Some((Meanwhile::Join(requests), client)),
            Job {
                request: Request::Aside { request },
                client,
            } => Some((Meanwhile::Aside(*request), client)),
            other => {
                self.waiting.push_front(other);
                None
            }
        }
    }

    /// Takes the first aside request that has arrived; the other requests keep their order.
    fn aside(&mut self) -> Option<(Request, Requester)> {
        let at = self.aside_at()?;
        let Job { request, client } = self.waiting.remove(at)?;
        let Request::Aside { request } = request else {
            return None;
        };
        Some((*request, client))
    }

    /// Takes the aside requests that wait at this moment. Those that arrive while these are answered are not
    /// included: otherwise clients that ask again and again could hold up a training step for ever.
    fn asides(&mut self) -> Vec<(Request, Requester)> {
        self.waiting.extend(self.jobs.try_iter());
        let waiting = self.waiting.len();
        (0..waiting).map_while(|_| self.aside()).collect()
    }

    fn aside_at(&mut self) -> Option<usize> {
        self.waiting.extend(self.jobs.try_iter());
        let is_aside = |job: &Job| matches!(job.request, Request::Aside { .. });
        self.waiting.iter().position(is_aside)
    }
}

/// Aside requests overtake the other requests while a model is trained.
impl Bystanders for Inbox {
    fn are_waiting(&mut self) -> bool {
        self.aside_at().is_some()
    }

    fn answer(&mut self, desk: &AsideDesk<'_>) -> Result<()> {
        for (request, client) in self.asides() {
            answer_aside(Ok(*desk), request, &client).map_err(of_device)?;
        }
        Ok(())
    }

    fn refuse(&mut self, error: &EngineError) {
        for (_, client) in self.asides() {
            client.write(&Answer::Failed(error.clone()));
        }
    }
}

/// Handles requests until an exit request, a device failure, or the end of all clients.
fn work(engine: &mut Engine, mut inbox: Inbox, shutdown: &ShutdownSignal, mut fault: Fault) -> Served {
    while let Some(Job { request, client }) = inbox.wait() {
        heartbeat::set_busy(true);
        let struck = fault.strike(&request);
        let done = match request {
            Request::Sample { requests } => sample(engine, (requests, client), &mut inbox, struck),
            Request::Exit => {
                // An exit request also ends the other ranks, if there are any.
                engine.handle(Request::Exit, &mut |_| ()).ok();
                client.write(&Answer::Done);
                shutdown.ask();
                return Served::Asked;
            }
            Request::Aside { request } => {
                let ready = engine.weights_at_hand();
                let answered = answer_aside(ready.and_then(|()| engine.desk()), *request, &client);
                answered.map_err(|message| EngineError::Device { message })
            }
            request => {
                let handled = whole(engine, |engine| {
                    struck?;
                    if let Request::LogLikelihoods { queries } = &request {
                        return engine.log_likelihoods(queries, &|| client.is_gone());
                    }
                    engine.handle_among(
                        request,
                        &mut |frame| client.write(&Answer::Frame(frame)),
                        &mut inbox,
                    )
                });
                client.write(&handled.clone().unwrap_or_else(Answer::Failed));
                handled.map(|_| ())
            }
        };
        if let Err(EngineError::Device { message }) = done {
            shutdown.ask();
            return Served::DeviceFailed(message);
        }
        heartbeat::set_busy(false);
    }
    Served::Asked
}

/// Samples for one client, and for all clients whose sampling requests arrive meanwhile.
fn sample(
    engine: &mut Engine,
    first: (Vec<SampleRequest>, Requester),
    inbox: &mut Inbox,
    struck: Result<()>,
) -> std::result::Result<(), EngineError> {
    let (requests, client) = first;
    let mut clients = BTreeMap::from([(0, client)]);
    let sampled = whole(engine, |engine| {
        struck?;
        engine.weights_at_hand()?;
        sample_together(engine, requests, inbox, &mut clients)
    });
    if let Err(error) = &sampled {
        for client in clients.values() {
            client.write(&Answer::Failed(error.clone()));
        }
    }
    sampled
}

/// Samples requests, and those of other clients that arrive meanwhile, in one running batch. A client whose connection
/// is closed loses its rows. An error of one client's request is sent to that client only, but a failure of the device
/// ends all.
fn sample_together(
    engine: &Engine,
    requests: Vec<SampleRequest>,
    inbox: &mut Inbox,
    clients: &mut BTreeMap<usize, Requester>,
) -> Result<()> {
    let mut sampling = engine.sampling()?;
    sampling.join(0, requests)?;
    let mut number = 0;
    while !sampling.is_empty() {
        while let Some((meanwhile, client)) = inbox.meanwhile() {
            let requests = match meanwhile {
                Meanwhile::Join(requests) => requests,
                Meanwhile::Aside(request) => {
                    answer_aside(engine.desk(), request, &client).map_err(of_device)?;
                    continue;
                }
            };
            number += 1;
            clients.insert(number, client);
            if let Err(error) = sampling.join(number, requests)
                && let Some(client) = clients.remove(&number)
            {
                client.write(&Answer::Failed(error.into()));
            }
        }
        for (gone, _) in clients.extract_if(.., |_, client| client.is_gone()) {
            sampling.leave(gone);
        }
        let answers = sampling.step(&mut |number, frame| {
            if let Some(client) = clients.get(&number) {
                client.write(&Answer::Frame(frame));
            }
        })?;
        for (number, answer) in answers {
            if let Answer::Failed(EngineError::Device { message }) = answer {
                return Err(of_device(message));
            }
            if let Some(client) = clients.remove(&number) {
                client.write(&answer);
            }
        }
    }
    Ok(())
}

/// Executes an aside request and answers its client. An error goes to that client only, except that the
/// message of a device failure is also returned.
fn answer_aside(
    desk: Result<AsideDesk<'_>>,
    request: Request,
    client: &Requester,
) -> std::result::Result<(), String> {
    let done = caught(|| {
        desk?.answer(request, &|| client.is_gone(), &mut |frame| {
            client.write(&Answer::Frame(frame));
        })
    });
    let done = match done {
        Ok(done) => done.map_err(EngineError::from),
        Err(words) => Err(of_panic(words)),
    };
    client.write(&done.clone().unwrap_or_else(Answer::Failed));
    match done {
        Err(EngineError::Device { message }) => Err(message),
        _ => Ok(()),
    }
}

/// Runs a piece of work and turns a panic into an error. The engine stays usable afterwards unless its device
/// failed.
fn whole<T>(
    engine: &mut Engine,
    work: impl FnOnce(&mut Engine) -> Result<T>,
) -> std::result::Result<T, EngineError> {
    let words = match caught(|| work(engine)) {
        Ok(done) => return done.map_err(EngineError::from),
        Err(words) => words,
    };
    let mut failed = of_panic(words);
    if let EngineError::Internal { message } = &mut failed
        && let Err(error) = engine.recover()
    {
        message.push_str(&format!("; {error}"));
    }
    Err(failed)
}

/// Returns the result of a piece of work, or the message of its panic.
fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        words
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default()
    })
}

/// Converts the message of a panic to an error; libtorch's device failures are recognised by their message.
fn of_panic(words: String) -> EngineError {
    match of_libtorch(words.clone()) {
        failed @ EngineError::Device { .. } => failed,
        _ => EngineError::Internal {
            message: format!("a panic: {words}"),
        },
    }
}

fn of_device(message: String) -> ModelError {
    ModelError::Torch(TchError::Torch(message))
}

fn refused(why: &impl ToString) -> Answer {
    Answer::Failed(EngineError::Refused {
        message: why.to_string(),
    })
}
