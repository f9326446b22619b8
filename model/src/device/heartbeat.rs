//! Signs of life of the thread that computes (law L10): a number that grows with every block of a network, every crossing to
//! the device, every file that is read or written.
//!
//! Whoever asks an engine for its heartbeat sees from two answers whether it got on between them. The thread that answers is
//! another than the one that computes: it answers while that one hangs, and does not while the process is stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static BEATS: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicBool = AtomicBool::new(false);

/// The computing thread got on.
pub fn beat() {
    BEATS.fetch_add(1, Relaxed);
}

/// The computing thread begins a request, or has ended it.
pub fn set_busy(busy: bool) {
    BUSY.store(busy, Relaxed);
    beat();
}

/// How often the computing thread got on, and whether it has a request to do.
#[must_use]
pub fn read() -> (u64, bool) {
    (BEATS.load(Relaxed), BUSY.load(Relaxed))
}
