//! Work whose error or panic goes to the client that asked for it, and leaves the engine usable.

use std::panic::AssertUnwindSafe;

use demask_api::{Answer, EngineError, Request};
use tch::TchError;

use super::connection::Requester;
use crate::engine::aside::AsideDesk;
use crate::engine::dispatch::Engine;
use crate::error::{ModelError, Result, of_libtorch};

/// Executes an aside request and answers its client. An error goes to that client only, except that the
/// message of a device failure is also returned.
pub(super) fn answer_aside(
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
pub(super) fn whole<T>(
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

pub(super) fn of_device(message: String) -> ModelError {
    ModelError::Torch(TchError::Torch(message))
}
