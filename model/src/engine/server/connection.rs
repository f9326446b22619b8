//! The socket, and the connection to one client, whose requests are passed on one by one.

use std::cell::Cell;
use std::io::{self, BufReader, ErrorKind};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use demask_api::{Answer, EngineError, Request, wire};

use crate::device::heartbeat;
use crate::engine::process::shutdown::{ShutdownSignal, UntilAsked};
use crate::world::join::clients::Clients;

/// The largest number of clients, and so of waiting requests (law L2). A client beyond it is refused and
/// disconnected.
const CLIENTS: usize = 64;
/// How long a client may leave an answer unread before it is disconnected. No other client is served
/// meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Binds the socket. A stale socket, which nobody serves, is replaced; any other existing file is an error.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
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
pub(super) fn accept<'scope>(
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
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) client: Requester,
}

/// The client that waits for an answer. Its next request is read when this value is dropped.
pub(super) struct Requester {
    stream: UnixStream,
    /// Whether writing to the client has failed.
    lost: Cell<bool>,
    _done: Sender<()>,
}

impl Requester {
    /// Returns whether the client has closed its side or no longer takes what is written.
    pub(super) fn is_gone(&self) -> bool {
        let mut byte = 0u8;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the buffer holds one byte, and the descriptor is open.
        let read = unsafe { libc::recv(self.stream.as_raw_fd(), (&raw mut byte).cast(), 1, flags) };
        self.lost.get() || read == 0
    }

    /// Writes an answer. A client that does not take it is disconnected.
    pub(super) fn write(&self, answer: &Answer) {
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

fn refused(why: &impl ToString) -> Answer {
    Answer::Failed(EngineError::Refused {
        message: why.to_string(),
    })
}
