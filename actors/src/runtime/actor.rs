//! How an actor handles a message: noted in its flight recorder, one at a time, and a panic in it ends the actor, no
//! more (law L1).
//!
//! Long work is done beside the arbiter ([`offload`]); what panics there panics here, so that the actor dies of it and the
//! supervisor makes another.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context as Turn, Poll};

use actix::prelude::*;

use crate::runtime::supervisor::Life;

/// An actor that the supervisor made.
pub trait Supervised: Actor<Context = Context<Self>> {
    /// What the supervisor gave it.
    fn life(&mut self) -> &mut Life;
}

/// The answer to a message: `work` runs alone in the actor, under the message's name.
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
    /// Whether work is done where it is asked for.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// From now on work that this thread gives to others is done on it, in its turn: in a simulation the order of everything follows
/// from a seed.
pub fn work_here() {
    HERE.set(true);
}

/// Work on a thread of its own was not begun: the program is ending.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cancelled(String);

/// Work for a thread of its own: what takes more than a moment of the processor.
///
/// # Errors
/// [`Cancelled`] when the program is ending.
///
/// # Panics
/// When the work does.
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

/// A future whose panic is a value.
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
