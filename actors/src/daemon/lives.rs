//! How often daemons have died of a run (laws L1 and L9): a file beside the run, a letter a life, kept until a step is done.
//!
//! An input that aborts the daemon would abort the next one too, which goes on with the run, and the home could never be used
//! again. So each life of a daemon with a run is noted before the run begins, and an abort (a stack that overflowed, memory that
//! could not be had) is noted by a signal handler. After a few without a step between, the run is failed and the home is free.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::home::Home;

/// Aborts in a row that a run may cause.
const ABORTS: usize = 3;
/// Lives in a row that may end in whatever way, a `kill -9` too.
const LIVES: usize = 12;
/// A life has begun.
const BEGUN: u8 = b'b';
/// It was aborted.
const ABORTED: u8 = b'a';
/// Where the signal handler writes; -1: nowhere.
static NOTE: AtomicI32 = AtomicI32::new(-1);

/// The lives of daemons with one run since its last step.
#[derive(Debug)]
pub(super) struct Lives {
    path: PathBuf,
    spent: Vec<u8>,
}

impl Lives {
    /// As they are noted.
    pub(super) fn of(home: &Home, run: &str) -> Self {
        let path = home.lives(run);
        let spent = std::fs::read(&path).unwrap_or_default();
        Self { path, spent }
    }

    /// Why the run is not to be tried again, if it is not.
    pub(super) fn spent(&self) -> Option<String> {
        let count = |letter: u8| self.spent.iter().filter(|&&found| found == letter).count();
        let (begun, aborted) = (count(BEGUN), count(ABORTED));
        let how = if aborted >= ABORTS {
            format!(
                "the daemon was aborted {aborted} times (a stack or memory that ran out; its log says more)"
            )
        } else if begun >= LIVES {
            format!("the daemon died {begun} times")
        } else {
            return None;
        };
        Some(format!(
            "{how} with this run without a step between: something that it reads may be the cause; mend it and `demask resume` goes on with it"
        ))
    }

    /// Notes that a daemon begins with the run; from now on an abort is noted too.
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
            tracing::warn!("{}: {error}; aborts are not counted", self.path.display());
        }
    }

    /// The run got on, or has ended: nothing is held against it.
    pub(super) fn forget(&self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn note_aborts(file: File) {
    let before = NOTE.swap(file.into_raw_fd(), SeqCst);
    if before >= 0 {
        // SAFETY: the descriptor was given up by its file in an earlier call and is nobody else's.
        unsafe { libc::close(before) };
    }
    let action = note_abort as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: a zeroed sigaction is valid; the handler calls only what is safe in one. The default action follows it.
    unsafe {
        let mut wanted: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = action;
        wanted.sa_flags = libc::SA_RESETHAND;
        libc::sigemptyset(&raw mut wanted.sa_mask);
        libc::sigaction(libc::SIGABRT, &raw const wanted, std::ptr::null_mut());
    }
}

extern "C" fn note_abort(_signal: libc::c_int) {
    // SAFETY: write is safe in a signal handler; one byte of a constant.
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
