//! Signals that end or stop a program: the terminal is given back before they are obeyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals as Caught;
use signal_hook::low_level::emulate_default_handler;

/// How long the loop may take to see a signal.
const GRACE: Duration = Duration::from_secs(1);

/// What has come and was not seen yet.
#[derive(Debug)]
pub(crate) struct Signals(Arc<AtomicI32>);

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop, as after Ctrl-Z.
    Suspend,
    /// End, of this signal.
    End(i32),
}

impl Signals {
    /// Catches them from now on. The loop is to look with [`Self::seen`]; one that hangs, as it does in reading a terminal
    /// that is gone, is ended by `give_back` and the signal all the same.
    ///
    /// # Errors
    /// The system's.
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

    /// The last signal that nobody has seen.
    pub(crate) fn seen(&self) -> Option<Signal> {
        match self.0.swap(0, Ordering::SeqCst) {
            0 => None,
            SIGTSTP => Some(Signal::Suspend),
            signal => Some(Signal::End(signal)),
        }
    }
}

/// Does what the signal does to a program that does not catch it.
///
/// # Errors
/// The system's.
pub(crate) fn obey(signal: i32) -> std::io::Result<()> {
    emulate_default_handler(signal)
}

/// Stops this process as Ctrl-Z does anywhere, until it is told to go on.
///
/// # Errors
/// The system's.
pub(crate) fn stop() -> std::io::Result<()> {
    obey(SIGTSTP)
}
