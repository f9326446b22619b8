//! How many files may be open (law L9): with too few, libraries give up where nothing can be told any more.

/// As many as a command needs, with room: standard input to error, a socket, a store with its log, a runtime.
const LEAST: u64 = 32;

/// Asks for as many as this user may have where there are too few.
///
/// # Errors
/// In words: there are too few all the same.
pub fn enough() -> Result<(), String> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 || limit.rlim_cur >= LEAST {
        return Ok(());
    }
    let found = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max.min(1024);
    // SAFETY: reads the limit that is given.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if raised && limit.rlim_cur >= LEAST {
        return Ok(());
    }
    Err(format!(
        "{found} files may be open at a time, expected at least {LEAST}: raise the limit (ulimit -n 1024)"
    ))
}
