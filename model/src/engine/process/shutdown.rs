//! The end of the engine's process. SIGTERM ends it after the present request, a second SIGTERM at once, and
//! the death of its parent at once.
//!
//! For an engine that was started by hand, SIGINT acts like SIGTERM. An engine that dies with its parent
//! ignores both and leaves the decision to the parent, which may want to finish a step and to save first: a
//! signal to the whole process group, as a terminal or a service manager sends it, reaches both processes.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptor that the signal handler writes to; -1 before [`ShutdownSignal::on_signals`].
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// The process id of the parent.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// A signal that becomes readable when the process was asked to end.
#[derive(Debug)]
pub struct ShutdownSignal {
    woken: OwnedFd,
}

impl ShutdownSignal {
    /// Installs the handlers of SIGTERM and SIGINT, which trigger this signal. If `dies_with_parent`, both
    /// are ignored instead.
    ///
    /// # Errors
    /// Returns the system's errors.
    pub fn on_signals(dies_with_parent: bool) -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        WAKE.store(wake.into_raw_fd(), Ordering::SeqCst);
        let ask = ask_to_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        if dies_with_parent {
            handle(libc::SIGTERM, libc::SIG_IGN, 0)?;
            handle(libc::SIGINT, libc::SIG_IGN, 0)?;
        } else {
            // With SA_RESETHAND the default action is restored, so the second signal kills the process.
            handle(libc::SIGTERM, ask, libc::SA_RESETHAND)?;
            handle(libc::SIGINT, ask, libc::SA_RESETHAND)?;
        }
        Ok(Self { woken: woken.into() })
    }

    /// Asks this process to end, as a signal does.
    pub fn ask(&self) {
        ask_to_end(0);
    }

    /// Waits until `other` is readable. Returns false when the process was asked to end.
    ///
    /// # Errors
    /// Returns the system's errors.
    pub fn wait_for(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let watch = |fd: RawFd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut watched = [watch(self.woken.as_raw_fd()), watch(other.as_raw_fd())];
        loop {
            // SAFETY: the array has two initialised entries, and both descriptors are borrowed for the call.
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

/// A reader of a socket that fails with `ConnectionAborted` when the process is asked to end.
#[derive(Debug)]
pub struct UntilAsked<'a> {
    stream: &'a UnixStream,
    shutdown: &'a ShutdownSignal,
}

impl<'a> UntilAsked<'a> {
    /// Returns a reader of the stream.
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

/// Ends this process as soon as its parent dies, so that a killed daemon leaves no engine behind. The caller
/// passes the parent's process id, because the parent may be dead before this process can look it up.
///
/// # Errors
/// Returns the system's errors.
pub fn die_with_parent(parent: i32) -> io::Result<()> {
    PARENT.store(parent, Ordering::SeqCst);
    #[cfg(target_os = "linux")]
    {
        // The kernel sends this signal when the parent's starting thread ends. The handler checks whether the
        // whole process ended.
        let look = look_for_parent as extern "C" fn(libc::c_int) as libc::sighandler_t;
        handle(libc::SIGUSR2, look, 0)?;
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR2) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before `prctl` took effect.
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
    // SAFETY: a zeroed `sigaction` is valid, and the handlers below call only async-signal-safe functions.
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
    // SAFETY: `write` is async-signal-safe and reads one byte of a static.
    unsafe {
        libc::write(WAKE.load(Ordering::SeqCst), b"!".as_ptr().cast(), 1);
    }
}

extern "C" fn look_for_parent(_signal: libc::c_int) {
    // SAFETY: `getppid` and `_exit` are async-signal-safe.
    unsafe {
        if libc::getppid() != PARENT.load(Ordering::SeqCst) {
            libc::_exit(1);
        }
    }
}
