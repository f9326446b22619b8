//! The socket: one client at a time, one request at a time. Whatever a client sends, the engine answers it or lets the
//! client go, and lives on.

use std::io::{self, BufReader, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use demask_api::{Answer, EngineError, Request, wire};

use crate::ending::{Ending, UntilAsked};
use crate::engine::Engine;

/// Serves until a client asks to exit or the process is asked to end.
///
/// # Errors
/// The socket's.
pub fn serve(engine: &mut Engine, path: &Path, ending: &Ending) -> io::Result<()> {
    let listener = bind(path)?;
    while ending.wait_for(listener.as_fd())? {
        let conversed = listener
            .accept()
            .and_then(|(stream, _)| converse(engine, &stream, ending));
        match conversed {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::warn!("client: {error}"),
        }
    }
    std::fs::remove_file(path).ok();
    Ok(())
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

/// Answers one client; true when the engine is to end.
fn converse(engine: &mut Engine, stream: &UnixStream, ending: &Ending) -> io::Result<bool> {
    let mut out = stream;
    let mut input = BufReader::new(UntilAsked::new(stream, ending));
    loop {
        let body = match wire::read_frame(&mut input) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => return Ok(true),
            Err(error) => {
                // What follows cannot be told apart from the rest of this frame: say why and let the client go.
                wire::write(&mut out, &refused(&error)).ok();
                return Err(error);
            }
        };
        let request = wire::decode::<Request>(&body);
        let exit = matches!(request, Ok(Request::Exit));
        let answer = match request {
            Ok(request) => answer(engine, request, out),
            Err(error) => refused(&error),
        };
        match wire::write(&mut out, &answer) {
            Err(error) if error.kind() == ErrorKind::InvalidData => wire::write(&mut out, &refused(&error))?,
            other => other?,
        }
        if exit {
            return Ok(true);
        }
    }
}

fn refused(error: &io::Error) -> Answer {
    Answer::Failed(EngineError::Refused {
        message: error.to_string(),
    })
}

/// Handles a request; whatever goes wrong inside becomes an answer.
fn answer(engine: &mut Engine, request: Request, mut out: &UnixStream) -> Answer {
    let mut lost = None;
    let handled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        engine.handle(request, &mut |frame| {
            if lost.is_none() {
                lost = wire::write(&mut out, &Answer::Frame(frame)).err();
            }
        })
    }));
    match handled {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Failed(EngineError::from(error)),
        Err(panic) => {
            let words = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = words
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let left = engine.recover().err();
            let left = left.map(|error| format!("; {error}")).unwrap_or_default();
            Answer::Failed(EngineError::Internal {
                message: format!("a panic: {message}{left}"),
            })
        }
    }
}
