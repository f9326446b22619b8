//! The socket server. It serves several clients, each with one request at a time, in the order of arrival.
//! There are two exceptions: sampling requests share a running batch ([`crate::engine::sample_requests`]),
//! and aside requests run between two of its forward passes or between two micro-batches of a training step.
//!
//! Except for a request to exit, no input of a client ends the engine: it answers every request, or
//! disconnects the client. A device failure ends it, after the client has been told.
//!
//! One thread per client reads requests. The thread that calls [`serve`] does all computing, or waits for it.
//!
//! - `connection.rs`: the socket, and the connection to one client;
//! - `inbox.rs`: the requests that have arrived; `work.rs`: their handling by the computing thread;
//! - `guarded.rs`: work whose error or panic goes to the client that asked for it.

mod connection;
mod guarded;
mod inbox;
mod work;

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::thread;

use crate::engine::dispatch::Engine;
use crate::engine::process::fault::Fault;
use crate::engine::process::shutdown::ShutdownSignal;
use crate::world::join::clients::Clients;

use connection::{accept, bind};
use inbox::Inbox;
use work::work;

pub use work::Served;

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
