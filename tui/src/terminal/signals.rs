//! Signals that end or suspend the program: the terminal is restored before they take effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals as Caught;
use signal_hook::low_level::emulate_default_handler;

/// The time in which the loop must notice a signal.
const GRACE: Duration = Duration::from_secs(1);

/// The last signal that was not handled yet.
#[derive(Debug)]
pub(crate) struct Signals(Arc<AtomicI32>);

/// How a signal is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Suspend, as after Ctrl-Z.
    Suspend,
    /// End, by this signal.
    End(i32),
}

impl Signals {
    /// Catches the signals from now on. The loop must poll [`Self::seen`]. If the loop hangs, for example while reading
    /// a terminal that is gone, `give_back` is called and the signal takes effect nevertheless.
    ///
    /// # Errors
    /// Any error of the system.
    pub(crate) fn catch(give_back: fn()) -> std::io::Result<Self> {
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGTERM, SIGTSTP])?;
        let last = Arc::<AtomicI32>::default();
        let shared = Arc::clone(&last);
        std::thread::spawn(move || {
            for signal in caught.forever() {
                shared.store(signal, Ordering::SeqCst);
                if signal != SIGTSTP {
                    std::thread::sleep(GRACE);
                    give_back();
                    obey(signal).ok();
                }
            }
        });
        Ok(Self(last))
    }

    /// Returns the last signal that was not handled yet.
    pub(crate) fn seen(&self) -> Option<Signal> {
        match self.0.swap(0, Ordering::SeqCst) {
            0 => None,
            SIGTSTP => Some(Signal::Suspend),
            signal => Some(Signal::End(signal)),
        }
    }
}

/// Performs the default action of a signal.
///
/// # Errors
/// Any error of the system.
pub(crate) fn obey(signal: i32) -> std::io::Result<()> {
    emulate_default_handler(signal)
}

/// Suspends this process like Ctrl-Z until it is continued.
///
/// # Errors
/// Any error of the system.
pub(crate) fn stop() -> std::io::Result<()> {
    obey(SIGTSTP)
}
