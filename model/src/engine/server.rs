//! The socket: several clients, each with one request at a time, done in the order in which they came; only samples are
//! drawn together ([`crate::engine::sample_requests`]), and what is asked for aside is done between two passes of
//! theirs, or between two micro-batches of a training step. Whatever a client sends, the engine answers it or lets the client go, and
//! lives on, unless its device has failed: then it says so and ends.
//!
//! A thread reads each client's requests; all computing is done by the thread that serves, or waited for by it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
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
use crate::engine::fault::Fault;
use crate::engine::shutdown::{ShutdownSignal, UntilAsked};
use crate::error::{ModelError, Result, of_libtorch};

/// Clients at one time, and so requests that wait (law L2): the next is told so and let go.
const CLIENTS: usize = 64;
/// How long a client may leave an answer unread before it is let go: nobody else is served meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why nobody is served any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A client or a signal asked.
    Asked,
    /// The device failed, in libtorch's words: nothing works on it in this process any more, not even an orderly end.
    DeviceFailed(String),
}

/// Serves until a client asks to exit, the process is asked to end or the device fails. Requests that have come by then are
/// still answered, but for those behind an exit or a failure: their clients see the connection end.
///
/// # Errors
/// The socket's.
pub fn serve(
    engine: &mut Engine,
    path: &Path,
    shutdown: &ShutdownSignal,
    fault: Fault,
) -> io::Result<Served> {
    let listener = bind(path)?;
    let (sender, receiver) = channel();
    let present = AtomicUsize::new(0);
    let served = thread::scope(|scope| {
        let present = &present;
        let accepting = scope.spawn(move || accept(scope, &listener, &sender, (present, shutdown)));
        let served = work(engine, Inbox::new(receiver), shutdown, fault);
        accepting.join().unwrap_or(Ok(())).map(|()| served)
    });
    std::fs::remove_file(path).ok();
    served
}

/// Takes the place of a socket that nobody serves any more, and of nothing else.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let taken = |message: &str| Err(io::Error::new(ErrorKind::AddrInUse, message.to_owned()));
        if !found.file_type().is_socket() {
            return taken("a file that is no socket is there already");
        }
        if UnixStream::connect(path).is_ok() {
            return taken("another engine serves there");
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets clients in until the process is asked to end.
fn accept<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    listener: &UnixListener,
    sender: &Sender<Job>,
    (present, shutdown): (&'scope AtomicUsize, &'scope ShutdownSignal),
) -> io::Result<()> {
    while shutdown.wait_for(listener.as_fd())? {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("client: {error}");
                continue;
            }
        };
        if present.load(Ordering::SeqCst) >= CLIENTS {
            let full = format!("{CLIENTS} clients are served already");
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

/// Hands a client's requests on one by one, each when the one before has been answered.
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
                // What follows cannot be told apart from the rest of this frame: say why and let the client go.
                wire::write(&mut out, &refused(&error)).ok();
                return Err(error);
            }
        };
        match wire::decode::<Request>(&body) {
            // Not handed on: whoever asks wants to know whether the thread that computes hangs (law L10).
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
                // Nothing is ever sent: it ends when the client has been answered or given up.
                answered.recv().ok();
            }
            Err(error) => wire::write(&mut out, &refused(&error))?,
        }
    }
}

/// A request and who waits for its answer.
struct Job {
    request: Request,
    client: Requester,
}

/// Who waits for an answer; with its end the next request is read.
struct Requester {
    stream: UnixStream,
    /// It does not take what is written.
    lost: Cell<bool>,
    _done: Sender<()>,
}

impl Requester {
    /// Whether it has closed its side.
    fn is_gone(&self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: one byte of room, an open descriptor.
        let read = unsafe { libc::recv(self.stream.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
        self.lost.get() || read == 0
    }

    /// Writes to a client; one that does not take it is let go.
    fn write(&self, answer: &Answer) {
        // Said before anybody hears of it: who hears may end this process at once.
        if let Answer::Failed(EngineError::Device { message }) = answer {
            tracing::error!("the device failed, and this engine ends: {message}");
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

/// What is done while samples are drawn.
#[allow(clippy::large_enum_variant)] // one at a time
enum Meanwhile {
    /// Samples that are drawn with the others.
    Join(Vec<SampleRequest>),
    /// Something between two passes.
    Aside(Request),
}

/// What has come and is not begun.
struct Inbox {
    jobs: Receiver<Job>,
    /// Those that have come and wait, at most one a client (law L2).
    waiting: VecDeque<Job>,
}

impl Inbox {
    fn new(jobs: Receiver<Job>) -> Self {
        Self {
            jobs,
            waiting: VecDeque::new(),
        }
    }

    /// The next request, waited for; none when nobody can send one any more.
    fn wait(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.jobs.recv().ok())
    }

    /// The next request if it has come and asks for samples, or for something aside. Any other waits for those before it, and so
    /// does what follows it.
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

    /// The first of those that have come and ask for something aside; the others keep their order.
    fn aside(&mut self) -> Option<(Request, Requester)> {
        let at = self.aside_at()?;
        let Job { request, client } = self.waiting.remove(at)?;
        let Request::Aside { request } = request else {
            return None;
        };
        Some((*request, client))
    }

    /// Those who wait at this moment: who comes while they are answered is not among them, else people who ask again and again
    /// would hold a step up for ever.
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

/// Those who ask aside while a model is trained: they need not wait for those before them.
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

/// Does what is asked until there is nobody left to ask, or no device left.
fn work(engine: &mut Engine, mut inbox: Inbox, shutdown: &ShutdownSignal, mut fault: Fault) -> Served {
    while let Some(Job { request, client }) = inbox.wait() {
        heartbeat::set_busy(true);
        let struck = fault.strike(&request);
        let done = match request {
            Request::Sample { requests } => sample(engine, (requests, client), &mut inbox, struck),
            Request::Exit => {
                // Its peers too, where it has some.
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

/// Samples for one client and for all who come meanwhile and want the same.
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

/// Does what a client asks for aside and answers it. Whatever goes wrong stays between the two, unless it is the device: then its
/// words come back.
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

/// Does a piece of work; whatever goes wrong inside becomes an error, and the engine is fit for the next unless it is its
/// device that failed.
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

/// What a piece of work ends with, or the words of its panic.
fn caught<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        words
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default()
    })
}

/// What a panic means for whoever asked.
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
