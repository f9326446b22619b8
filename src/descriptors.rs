//! The limit on open files (law L9). With too few file descriptors, libraries fail at places where no error can be
//! reported any more.

/// Fewest descriptors with which a command runs: the standard streams, a socket, a store with its log, and a runtime,
/// with room to spare.
const LEAST: u64 = 32;
/// Number of descriptors that is requested: a long run opens shards, connections and processes of rewards.
const ASKED: u64 = 1024;

/// Returns how many files this process may open now, and the most that it may request; `None` where the system does not
/// report it.
pub fn limits() -> Option<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call fills in a plain struct.
    let is_told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    is_told.then_some((limit.rlim_cur, limit.rlim_max))
}

/// Raises the limit to [`ASKED`], or to this user's maximum, where it is lower.
///
/// # Errors
/// A message if the limit is still too low.
pub fn enough() -> Result<(), String> {
    let Some((found, most)) = limits().filter(|(now, _)| *now < ASKED) else {
        return Ok(());
    };
    let asked = libc::rlimit {
        rlim_cur: most.min(ASKED),
        rlim_max: most,
    };
    // SAFETY: the call reads the limit that is given.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const asked) } == 0;
    let now = if is_raised { asked.rlim_cur } else { found };
    if now >= LEAST {
        return Ok(());
    }
    Err(format!(
        "the limit of open files is {found}, expected at least {LEAST}: raise it (ulimit -n {ASKED})"
    ))
}
