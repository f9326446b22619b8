//! The background process of a home: one recorder, one control socket, and at most one run at a time. Here are its start
//! and its last work; `event_loop.rs` has what is between, `repetition.rs` requests that come again. How a run starts is in
//! `beginnings.rs` and `turns.rs`.
//!
//! L1: a run that did not end continues when the daemon starts. A life of it that ends in an engine's death or a panic
//! is followed by another from the last checkpoint. SIGTERM finishes the step, saves a checkpoint and flushes the
//! store; a second signal ends the process at once. A client that asks for the end twice does not make it wait for a disk
//! that does not answer.

mod event_loop;
mod repetition;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use demask_storage::{Alert, Level, Record};

use super::{sockets, store_health};
use crate::engine::join::door::OpenDoor;
use crate::engine::join::listen::JoinDoor;
use crate::engine::join::lobby::Lobby;
use crate::engine::starter::{EngineStarter, ProcessStarter};
use crate::home::Home;
use crate::run::context::RunDriver;
use crate::run::driver::StageDriver;
use crate::runtime::log;
use crate::runtime::recorder::Recorder;

pub use event_loop::EndedWithoutDisk;
pub(super) use event_loop::{Active, Daemon};

/// Longest wait for work that still waits for the disk when every row is on it.
const LAST_WORK: Duration = Duration::from_secs(4);

/// Serves a home until it is told to end, and lets engines join at a door if one is given. Blocks.
///
/// # Errors
/// An error if another daemon holds the home's lock, or if the store, the socket or the door cannot be opened.
pub fn serve(home: &Home, door: Option<&JoinDoor>) -> anyhow::Result<()> {
    serve_all(home, Rc::new(StageDriver::default()), door, true)
}

/// Serves a home as [`serve`] does, with another driver of the runs and no door.
///
/// # Errors
/// As [`serve`].
pub fn serve_with(home: &Home, driver: Rc<dyn RunDriver>) -> anyhow::Result<()> {
    serve_all(home, driver, None, false)
}

/// Serves a home. It may end the process only if it owns it.
fn serve_all(
    home: &Home,
    driver: Rc<dyn RunDriver>,
    door: Option<&JoinDoor>,
    owns_process: bool,
) -> anyhow::Result<()> {
    let _lock = home.lock()?;
    // L1: the check comes before anything is written to the store.
    let found = store_health::at_start(home)?;
    let (recorder, thread) = Recorder::start(&home.database())?;
    let (root, own) = (home.root().display(), std::process::id());
    tracing::info!(
        "daemon {} of {root} is up, process {own}",
        env!("CARGO_PKG_VERSION")
    );
    tell(&recorder, found);
    match sockets::sweep(home) {
        0 => {}
        count => tracing::info!("removed {count} sockets of engines that were killed"),
    }
    let serving = serve_at(home.clone(), recorder.clone(), driver, door);
    let system = actix::System::new();
    let served = system.block_on(serving);
    if let Err(error) = &served
        && error.is::<EndedWithoutDisk>()
        && owns_process
    {
        tracing::error!("{error}");
        log::flush();
        std::process::exit(1);
    }
    let last_work = owns_process
        .then(|| end_without_last_work(served.is_ok()))
        .flatten();
    drop(system);
    recorder.close();
    thread.join().ok();
    if let Ok(socket) = home.socket() {
        std::fs::remove_file(socket).ok();
    }
    drop(last_work);
    tracing::info!("daemon ended");
    served
}

/// Ends the process if the returned sender is not dropped soon (law L10). `None` if the system cannot start a thread.
///
/// A runtime that is dropped waits for the work on its threads, and a recorder that is closed for the transfer of its
/// log into the database. On a disk that does not answer neither ends, and nothing handles signals any more. What was
/// acknowledged is on the disk by now, so the next daemon continues from there, as after `kill -9`.
fn end_without_last_work(is_well: bool) -> Option<Sender<()>> {
    let (ended, waits) = channel();
    let end = move || {
        if waits.recv_timeout(LAST_WORK) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the daemon ends without its last work, because the disk does not answer");
            log::flush();
            std::process::exit(i32::from(!is_well));
        }
    };
    let thread = std::thread::Builder::new().name("last-work".into());
    thread.spawn(end).ok().map(|_| ended)
}

/// Serves a home with engines of this machine, and with those that join at a door if one is given.
async fn serve_at(
    home: Home,
    recorder: Recorder,
    driver: Rc<dyn RunDriver>,
    door: Option<&JoinDoor>,
) -> anyhow::Result<()> {
    let lobby = door.map(|door| Arc::new(Lobby::new(&door.file)));
    let open = match (door, &lobby) {
        (Some(door), Some(lobby)) => Some(OpenDoor::open(door, Arc::clone(lobby)).await?),
        _ => None,
    };
    let served = serve_here(home, recorder, driver, Arc::new(ProcessStarter { lobby })).await;
    if let Some(open) = open {
        open.close().await;
    }
    served
}

/// Serves a home whose lock the caller holds, on the present arbiter, with another starter of engines. Simulations use
/// it.
///
/// # Errors
/// An error if the store or the socket cannot be opened, or if the recorder has ended; [`EndedWithoutDisk`].
pub async fn serve_here(
    home: Home,
    recorder: Recorder,
    driver: Rc<dyn RunDriver>,
    engines: Arc<dyn EngineStarter>,
) -> anyhow::Result<()> {
    Daemon::serve(home, recorder, driver, engines).await
}

/// Reports what was found at the start: in the log each time, and as an alert for watchers.
fn tell(recorder: &Recorder, found: Vec<String>) {
    for message in found {
        tracing::error!("{message}");
        let (run, kind) = (String::new(), "store".to_owned());
        recorder.offer(Record::Alert(Alert {
            run,
            step: 0,
            level: Level::Error,
            kind,
            message,
        }));
    }
}
