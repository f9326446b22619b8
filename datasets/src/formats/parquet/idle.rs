//! The processes that read single pictures (`columns/stored_picture.rs`): one for each thread, which keeps its place in
//! the file for the next picture, until none was asked for a while.

use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::process::{ParquetFrame, ParquetJob, ParquetProcess, UNEXPECTED};

/// The time after which a process that nobody asks is ended.
const REST: Duration = Duration::from_secs(10);

static IDLE: Mutex<IdleReaders> = Mutex::new(IdleReaders {
    readers: Vec::new(),
    is_watched: false,
});

/// The processes that are not being asked.
struct IdleReaders {
    /// Each with its thread, and the time since when it rests.
    readers: Vec<(ThreadId, Instant, ParquetProcess)>,
    /// Whether a thread ends those that rest for long.
    is_watched: bool,
}

/// Reads the bytes of the picture file at a place in this thread's process, `None` inside if they are null; `None` if no
/// program is registered.
pub(in crate::formats) fn picture(
    place: impl FnOnce() -> Vec<u8>,
) -> Option<Result<Option<Vec<u8>>, String>> {
    let process = match taken() {
        Some(process) => Ok(process),
        None => ParquetProcess::start()?,
    };
    Some(process.and_then(|mut process| {
        process.ask(&ParquetJob::Picture { place: place() })?;
        let read = match process.frame()? {
            ParquetFrame::Picture(bytes) => Ok(Some(bytes)),
            ParquetFrame::NoPicture => Ok(None),
            ParquetFrame::Failed(why) => Err(why),
            _ => return Err(UNEXPECTED.to_owned()),
        };
        put_back(process);
        read
    }))
}

/// Takes the process of this thread, if it is still there.
fn taken() -> Option<ParquetProcess> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::thread::current().id();
    let at = idle.readers.iter().position(|(thread, ..)| *thread == own)?;
    let mut process = idle.readers.swap_remove(at).2;
    process.is_alive().then_some(process)
}

fn put_back(process: ParquetProcess) {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::thread::current().id();
    idle.readers.push((own, Instant::now(), process));
    if !idle.is_watched {
        let watch = std::thread::Builder::new().name("parquet-idle".to_owned());
        idle.is_watched = watch.spawn(end_the_rested).is_ok();
    }
}

/// Ends processes that rest for long, until there are none.
fn end_the_rested() {
    loop {
        std::thread::sleep(REST);
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = std::mem::take(&mut idle.readers);
        let is_rested = |(_, since, _): &(ThreadId, Instant, ParquetProcess)| since.elapsed() >= REST;
        let (rested, others): (Vec<_>, Vec<_>) = readers.into_iter().partition(is_rested);
        idle.readers = others;
        idle.is_watched = !idle.readers.is_empty();
        let is_done = !idle.is_watched;
        drop(idle);
        drop(rested);
        if is_done {
            return;
        }
    }
}
