//! Message handling that every actor shares: messages are handled one at a time, each is noted in the flight recorder,
//! and a panic ends only the actor that panicked (law L1).
//!
//! [`offload`] runs long work on a thread of its own, outside the actor's arbiter. If that work panics, the panic is
//! raised again in the actor, so the actor ends and the supervisor makes a new one.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context as Turn, Poll};

use actix::prelude::*;

use crate::runtime::supervisor::Life;

/// An actor that the supervisor creates.
pub trait Supervised: Actor<Context = Context<Self>> {
    /// Returns the [`Life`] that the supervisor gave this actor.
    fn life(&mut self) -> &mut Life;
}

/// Handles a message named `message` by running `work`, and returns its answer.
///
/// The actor takes no other message until `work` is done. A panic in `work` is recorded with its text and then raised
/// again.
pub fn handle_message<A: Supervised, T: 'static, E: Display + 'static>(
    actor: &mut A,
    message: &str,
    work: impl Future<Output = Result<T, E>> + 'static,
) -> AtomicResponse<A, Result<T, E>> {
    let handling = actor.life().probe.handle(message);
    let caught = Caught(Box::pin(work)).into_actor(actor);
    AtomicResponse::new(Box::pin(caught.map(move |done, actor: &mut A, _| match done {
        Ok(answer) => {
            let outcome = answer
                .as_ref()
                .err()
                .map_or_else(|| "ok".to_owned(), ToString::to_string);
            handling.end(outcome);
            answer
        }
        Err(panic) => {
            let words = words(panic.as_ref());
            actor.life().failed(format!("panicked: {words}"));
            handling.end(format!("panicked: {words}"));
            resume_unwind(panic)
        }
    })))
}

thread_local! {
    /// Whether [`offload`] runs its work on the calling thread.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Makes [`offload`] run its work on the calling thread, at once.
///
/// A simulation needs this: the order of all events must follow from its seed.
pub fn work_here() {
    HERE.set(true);
}

/// The error that offloaded work was not started because the program is ending.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cancelled(String);

/// Runs `work` on a thread of its own. Use it for anything that takes more than a moment of processor time.
///
/// # Errors
/// [`Cancelled`] when the program is ending.
///
/// # Panics
/// When `work` panics.
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cancelled> {
    if HERE.get() {
        return Ok(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(error) => Err(Cancelled(error.to_string())),
        },
    }
}

/// A future that returns a panic of the inner future as a value.
struct Caught<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Future for Caught<T> {
    type Output = Result<T, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, turn: &mut Turn<'_>) -> Poll<Self::Output> {
        let work = &mut self.0;
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(turn))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".into())
}
