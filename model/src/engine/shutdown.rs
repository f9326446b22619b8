//! When the engine's process ends: SIGTERM ends it after the present request, the death of its parent at once.
//!
//! A second SIGTERM ends it at once too. SIGINT is SIGTERM for an engine started by hand; one that was started to die with
//! its parent leaves both to the parent, which may want to finish its step and to save first: a signal to the whole group of
//! processes, as a terminal or a service manager sends it, reaches both.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

/// Where the signal handler writes; -1 before [`ShutdownSignal::on_signals`].
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// The parent that started this process.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Becomes readable when the process was asked to end.
#[derive(Debug)]
pub struct ShutdownSignal {
    woken: OwnedFd,
}

impl ShutdownSignal {
    /// From now on SIGTERM and SIGINT wake whoever waits on this, unless the parent decides when this process ends.
    ///
    /// # Errors
    /// The system's.
    pub fn on_signals(dies_with_parent: bool) -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        WAKE.store(wake.into_raw_fd(), Ordering::SeqCst);
        let ask = ask_to_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        if dies_with_parent {
            handle(libc::SIGTERM, libc::SIG_IGN, 0)?;
            handle(libc::SIGINT, libc::SIG_IGN, 0)?;
        } else {
            // The second signal finds the default action again.
            handle(libc::SIGTERM, ask, libc::SA_RESETHAND)?;
            handle(libc::SIGINT, ask, libc::SA_RESETHAND)?;
        }
        Ok(Self { woken: woken.into() })
    }

    /// Asks this process to end, as the signal does.
    pub fn ask(&self) {
        ask_to_end(0);
    }

    /// Waits until something can be read; false when the process was asked to end.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_for(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let watch = |fd: RawFd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut watched = [watch(self.woken.as_raw_fd()), watch(other.as_raw_fd())];
        loop {
            // SAFETY: two initialised entries, both descriptors are borrowed for the call.
            let ready = unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) };
            let error = io::Error::last_os_error();
            if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            if ready > 0 {
                return Ok(watched[0].revents == 0);
            }
        }
    }
}

/// Reads from a socket until the process is asked to end, which is an error of kind `ConnectionAborted`.
#[derive(Debug)]
pub struct UntilAsked<'a> {
    stream: &'a UnixStream,
    shutdown: &'a ShutdownSignal,
}

impl<'a> UntilAsked<'a> {
    /// A reader of the stream.
    #[must_use]
    pub fn new(stream: &'a UnixStream, shutdown: &'a ShutdownSignal) -> Self {
        Self { stream, shutdown }
    }
}

impl Read for UntilAsked<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.shutdown.wait_for(self.stream.as_fd())? {
            return self.stream.read(into);
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "asked to end"))
    }
}

/// Ends this process now, as failed: nothing is freed and no library is asked to clean up, which on a failed device may throw
/// or never return.
pub fn at_once() -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(1) }
}

/// Ends this process as soon as its parent is dead, so that a killed daemon leaves no engine behind. The parent says who it
/// is: it may be dead before this process can look.
///
/// # Errors
/// The system's.
pub fn die_with_parent(parent: i32) -> io::Result<()> {
    PARENT.store(parent, Ordering::SeqCst);
    #[cfg(target_os = "linux")]
    {
        // The kernel sends this when the thread that started us ends; the handler asks whether the whole parent did.
        let look = look_for_parent as extern "C" fn(libc::c_int) as libc::sighandler_t;
        handle(libc::SIGUSR2, look, 0)?;
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR2) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have ended before the kernel knew that we care.
        look_for_parent(0);
    }
    #[cfg(not(target_os = "linux"))]
    std::thread::Builder::new().spawn(|| {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(500));
            look_for_parent(0);
        }
    })?;
    Ok(())
}

fn handle(signal: libc::c_int, action: libc::sighandler_t, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: a zeroed sigaction is valid; the handlers below call only what is safe in a signal handler.
    let failed = unsafe {
        let mut wanted: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = action;
        wanted.sa_flags = flags | libc::SA_RESTART;
        libc::sigemptyset(&raw mut wanted.sa_mask);
        libc::sigaction(signal, &raw const wanted, std::ptr::null_mut())
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn ask_to_end(_signal: libc::c_int) {
    // SAFETY: write is safe in a signal handler; one byte of a static.
    unsafe {
        libc::write(WAKE.load(Ordering::SeqCst), b"!".as_ptr().cast(), 1);
    }
}

extern "C" fn look_for_parent(_signal: libc::c_int) {
    // SAFETY: getppid and _exit are safe in a signal handler.
    unsafe {
        if libc::getppid() != PARENT.load(Ordering::SeqCst) {
            libc::_exit(1);
        }
    }
}
