//! The heartbeat of the computing thread (law L10): a counter that grows with every transformer block, every transfer
//! to or from the device, every tensor that is read from a file, and every piece that is written or flushed to one.
//!
//! A client that asks an engine for its heartbeat twice sees whether it made progress in between. Another thread
//! answers, so there is an answer while the computing thread hangs, and none while the process is stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static BEATS: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicBool = AtomicBool::new(false);

/// Counts one step of progress of the computing thread.
pub fn beat() {
    BEATS.fetch_add(1, Relaxed);
}

/// Records that the computing thread begins (`true`) or has finished (`false`) a request.
pub fn set_busy(busy: bool) {
    BUSY.store(busy, Relaxed);
    beat();
}

/// Returns the progress counter, and whether the computing thread has a request.
#[must_use]
pub fn read() -> (u64, bool) {
    (BEATS.load(Relaxed), BUSY.load(Relaxed))
}
