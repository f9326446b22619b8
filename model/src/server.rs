//! The socket: one client at a time, one request at a time.

use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use demask_api::{Answer, EngineError, Request, wire};

use crate::engine::Engine;

/// Serves until a client asks to exit.
///
/// # Errors
/// The socket's.
pub fn serve(engine: &mut Engine, path: &Path) -> io::Result<()> {
    std::fs::remove_file(path).ok();
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    for stream in listener.incoming() {
        match converse(engine, stream?) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::warn!("client: {error}"),
        }
    }
    std::fs::remove_file(path).ok();
    Ok(())
}

/// Answers one client; true when it asked the engine to exit.
fn converse(engine: &mut Engine, stream: UnixStream) -> io::Result<bool> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(request) = wire::read::<Request>(&mut input)? {
        let exit = matches!(request, Request::Exit);
        let answer = answer(engine, request, &mut out);
        wire::write(&mut out, &answer)?;
        if exit {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Handles a request; whatever goes wrong inside becomes an answer.
fn answer(engine: &mut Engine, request: Request, out: &mut UnixStream) -> Answer {
    let mut lost = None;
    let handled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        engine.handle(request, &mut |frame| {
            if lost.is_none() {
                lost = wire::write(out, &Answer::Frame(frame)).err();
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
            Answer::Failed(EngineError::Internal {
                message: format!("a panic: {message}"),
            })
        }
    }
}
