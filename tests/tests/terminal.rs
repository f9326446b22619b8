//! The dashboard on its own terminal: whatever ends or suspends it, the terminal is restored.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use demask_tests::{Place, said};

/// Longer than the slowest machine needs to draw a screen.
const PATIENCE: Duration = Duration::from_secs(120);
/// The control sequences that restore a terminal: no mouse, the primary screen, a visible cursor.
const GIVEN_BACK: [&str; 3] = ["\x1b[?1000l", "\x1b[?1049l", "\x1b[?25h"];

/// A pseudo-terminal with the dashboard on it.
struct Terminal {
    master: File,
    /// The program's side, held so that its settings can be read.
    slave: OwnedFd,
    before: libc::termios,
    dashboard: Child,
    said: Receiver<Vec<u8>>,
    text: String,
}

/// The arguments that open the dashboard of a running daemon.
const ATTACH: [&str; 3] = ["attach", "--images", "halfblocks"];

/// Opens a pseudo-terminal of 100 columns and 30 rows and starts a command on it that opens the dashboard; returns both
/// sides and the settings.
fn started(place: &Place, arguments: &[&str]) -> (File, OwnedFd, libc::termios, Child) {
    let size = size(100, 30);
    let (mut master, mut slave) = (0, 0);
    let nothing = std::ptr::null_mut();
    // SAFETY: two descriptors are written to the pointers, and are owned from here on.
    let (master, slave) = unsafe {
        assert_eq!(
            libc::openpty(&mut master, &mut slave, nothing, nothing.cast(), &size),
            0
        );
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    for descriptor in [master.as_raw_fd(), slave.as_raw_fd()] {
        // SAFETY: sets a flag of our own descriptor, so that no program of another test inherits this terminal.
        assert_eq!(
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) },
            0
        );
    }
    let before = settings(&slave);
    let end = || Stdio::from(slave.try_clone().unwrap());
    let mut command = place.demask(arguments);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let dashboard = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    (master, slave, before, dashboard)
}

fn size(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// Opens the dashboard and waits until it is drawn.
    fn open(place: &Place) -> Self {
        Self::open_by(place, &ATTACH)
    }

    /// Opens the dashboard by this command and waits until it is drawn.
    fn open_by(place: &Place, arguments: &[&str]) -> Self {
        let (master, slave, before, dashboard) = started(place, arguments);
        let (chunks, said) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if chunks.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self {
            master,
            slave,
            before,
            dashboard,
            said,
            text: String::new(),
        };
        terminal.wait_for("Overview");
        terminal
    }

    fn wait_for(&mut self, words: &str) {
        // It draws repeatedly, so the deadline covers all of that.
        let deadline = Instant::now() + PATIENCE;
        while !self.text.contains(words) {
            let left = deadline.saturating_duration_since(Instant::now());
            let chunk = self.said.recv_timeout(left);
            let chunk = chunk.unwrap_or_else(|_| panic!("{words:?} never came: {}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    fn press(&mut self, key: &str) {
        self.master.write_all(key.as_bytes()).unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to our own child, which has not been reaped.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.dashboard.id()).unwrap()
    }

    fn is_as_before(&self) -> bool {
        let (now, then) = (settings(&self.slave), &self.before);
        (now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag)
            == (then.c_iflag, then.c_oflag, then.c_cflag, then.c_lflag)
    }

    /// Waits for the dashboard's end; returns its status.
    fn end(mut self) -> ExitStatus {
        let status = self.dashboard.wait().unwrap();
        assert!(self.is_as_before());
        for words in GIVEN_BACK {
            self.wait_for(words);
        }
        status
    }
}

fn settings(terminal: &OwnedFd) -> libc::termios {
    let mut found = std::mem::MaybeUninit::uninit();
    // SAFETY: filled in if 0 is returned.
    unsafe {
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), found.as_mut_ptr()), 0);
        found.assume_init()
    }
}

fn served(test: impl AsyncFnOnce(&Place)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut place = Place::default();
        place.serve().await;
        test(&place).await;
        place.terminate();
    });
}

#[test]
fn a_key_leaves_the_terminal_as_it_was() {
    served(async |place| {
        for key in ["q", "\x03"] {
            let mut terminal = Terminal::open(place);
            assert!(!terminal.is_as_before(), "keys are read one by one");
            terminal.press(key);
            assert_eq!(terminal.end().code(), Some(0));
        }
    });
}

#[test]
fn a_signal_is_obeyed_and_leaves_the_terminal_as_it_was() {
    served(async |place| {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            let terminal = Terminal::open(place);
            terminal.signal(signal);
            assert_eq!(terminal.end().signal(), Some(signal));
        }
    });
}

#[test]
fn a_terminal_that_is_gone_leaves_no_dashboard_behind() {
    served(async |place| {
        let (mut master, slave, _, mut dashboard) = started(place, &ATTACH);
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains("Overview") {
            let count = master.read(&mut buffer).unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        drop((master, slave));
        // SAFETY: sends a signal to our own child, which has not been reaped.
        assert_eq!(
            unsafe { libc::kill(dashboard.id().cast_signed(), libc::SIGHUP) },
            0
        );
        // It may notice either first: the end of input, or the signal.
        let ended = dashboard.wait().unwrap();
        assert!(
            ended.code() == Some(1) || ended.signal() == Some(libc::SIGHUP),
            "{ended:?}"
        );
    });
}

#[test]
fn another_size_is_drawn_at_once() {
    served(async |place| {
        let mut terminal = Terminal::open(place);
        let size = size(50, 10);
        // SAFETY: reads a size from the pointer.
        let set = unsafe { libc::ioctl(terminal.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0);
        terminal.wait_for("small:");
        terminal.press("q");
        assert_eq!(terminal.end().code(), Some(0));
    });
}

#[test]
fn ctrl_z_gives_the_terminal_back_until_it_goes_on() {
    served(async |place| {
        let mut terminal = Terminal::open(place);
        terminal.press("\x1a");
        let mut status = 0;
        // SAFETY: waits for our own child to stop, which does not reap it.
        let stopped = unsafe { libc::waitpid(terminal.pid(), &mut status, libc::WUNTRACED) };
        assert!(stopped == terminal.pid() && libc::WIFSTOPPED(status));
        assert!(terminal.is_as_before());
        for words in GIVEN_BACK {
            terminal.wait_for(words);
        }
        terminal.text.clear();
        terminal.signal(libc::SIGCONT);
        terminal.wait_for("Overview");
        terminal.press("q");
        assert_eq!(terminal.end().code(), Some(0));
    });
}

/// A run that is refused because another one is active shows that one, and is a failure nevertheless.
#[test]
fn a_run_that_is_refused_is_a_failure_although_the_dashboard_opens() {
    served(async |place| {
        let begun = place.run(&["run", "smoke", "--from-scratch", "--headless", "--detach"]);
        assert!(begun.status.success(), "{}", said(&begun));
        let paused = place.run(&["pause"]);
        assert!(paused.status.success(), "{}", said(&paused));
        let mut terminal = Terminal::open_by(place, &["run", "smoke", "--from-scratch", "--set", "seed=4"]);
        assert!(terminal.text.contains("is active"), "{}", terminal.text);
        terminal.press("q");
        assert_eq!(terminal.end().code(), Some(1));
        // JSON has the output for itself: no dashboard opens, and the refusal ends the command.
        let (master, slave, _, mut refused) = started(
            place,
            &["run", "smoke", "--from-scratch", "--set", "seed=4", "--json"],
        );
        assert_eq!(refused.wait().unwrap().code(), Some(1));
        drop((master, slave));
    });
}
