//! A count of the daemons that died of a run (laws L1 and L9). It is kept in a file beside the run, one letter per
//! event, until the run completes a step.
//!
//! An input that aborts one daemon would abort the next one too, because that one continues the run; the home could
//! never be used again. So each daemon notes the beginning of its life with the run before the run starts. A signal
//! handler notes an abort, for example by a stack overflow or a failed allocation. After a few of them without a
//! completed step, the run is failed and the home is usable again.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::home::Home;

/// Aborts in a row after which a run is failed.
const ABORTS: usize = 3;
/// Lives in a row after which a run is failed, whatever ended them; `kill -9` counts too.
const LIVES: usize = 12;
/// The letter for a life that has begun.
const BEGUN: u8 = b'b';
/// The letter for a life that was aborted.
const ABORTED: u8 = b'a';
/// The file descriptor that the signal handler writes to; -1 for none.
static NOTE: AtomicI32 = AtomicI32::new(-1);

/// The lives of daemons with one run since its last completed step.
#[derive(Debug)]
pub(super) struct Lives {
    path: PathBuf,
    spent: Vec<u8>,
}

impl Lives {
    /// Reads the lives of a run.
    pub(super) fn of(home: &Home, run: &str) -> Self {
        let path = home.lives(run);
        let spent = std::fs::read(&path).unwrap_or_default();
        Self { path, spent }
    }

    /// Returns why the run must not be tried again, or `None` if it may.
    pub(super) fn spent(&self) -> Option<String> {
        let count = |letter: u8| self.spent.iter().filter(|&&found| found == letter).count();
        let (begun, aborted) = (count(BEGUN), count(ABORTED));
        let how = if aborted >= ABORTS {
            format!("the daemon was aborted {aborted} times (stack or memory ran out; see its log)")
        } else if begun >= LIVES {
            format!("the daemon died {begun} times")
        } else {
            return None;
        };
        Some(format!(
            "{how} in this run without completing a step; an input of the run may be the cause: fix it, then `demask resume` continues the run"
        ))
    }

    /// Notes that a daemon's life with the run begins. From now on an abort is noted too.
    pub(super) fn begin(&self) {
        let note = || -> std::io::Result<()> {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            file.write_all(&[BEGUN])?;
            note_aborts(file);
            Ok(())
        };
        if let Err(error) = note() {
            tracing::warn!(
                "{}: {error}; aborts of the daemon will not be counted",
                self.path.display()
            );
        }
    }

    /// Forgets all lives, because the run completed a step or ended.
    pub(super) fn forget(&self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn note_aborts(file: File) {
    let before = NOTE.swap(file.into_raw_fd(), SeqCst);
    if before >= 0 {
        // SAFETY: an earlier call took the descriptor out of its `File`, so nothing else owns it.
        unsafe { libc::close(before) };
    }
    let action = note_abort as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: a zeroed sigaction is valid, and the handler calls only async-signal-safe functions. The default action
    // follows it.
    unsafe {
        let mut wanted: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = action;
        wanted.sa_flags = libc::SA_RESETHAND;
        libc::sigemptyset(&raw mut wanted.sa_mask);
        libc::sigaction(libc::SIGABRT, &raw const wanted, std::ptr::null_mut());
    }
}

extern "C" fn note_abort(_signal: libc::c_int) {
    // SAFETY: `write` is async-signal-safe, and it writes one byte of a constant.
    unsafe {
        libc::write(NOTE.load(SeqCst), [ABORTED].as_ptr().cast(), 1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l9_a_run_is_given_up_after_three_aborts_or_a_dozen_lives_without_a_step() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        let lives = || Lives::of(&home, "r");
        for _ in 0..LIVES {
            assert_eq!(lives().spent(), None);
            lives().begin();
        }
        assert!(lives().spent().unwrap().contains("died 12 times"));
        lives().forget();
        assert_eq!(lives().spent(), None, "a step was done");
        for _ in 0..ABORTS {
            assert_eq!(lives().spent(), None);
            lives().begin();
            note_abort(0);
        }
        assert!(lives().spent().unwrap().contains("aborted 3 times"));
    }
}
