//! How many files may be open (law L9): with too few, libraries give up where nothing can be told any more.

/// As many as a command needs, with room: standard input to error, a socket, a store with its log, a runtime.
const LEAST: u64 = 32;
/// As many as are asked for: a long run opens shards, connections and processes of rewards.
const ASKED: u64 = 1024;

/// How many files this process may open now, and the most that it may ask for; none where the system does not say.
pub fn limits() -> Option<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a plain struct that the call fills in.
    let is_told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    is_told.then_some((limit.rlim_cur, limit.rlim_max))
}

/// Asks for as many as are needed, or as this user may have, where there are fewer.
///
/// # Errors
/// In words: there are too few all the same.
pub fn enough() -> Result<(), String> {
    let Some((found, most)) = limits().filter(|(now, _)| *now < ASKED) else {
        return Ok(());
    };
    let asked = libc::rlimit {
        rlim_cur: most.min(ASKED),
        rlim_max: most,
    };
    // SAFETY: reads the limit that is given.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const asked) } == 0;
    let now = if is_raised { asked.rlim_cur } else { found };
    if now >= LEAST {
        return Ok(());
    }
    Err(format!(
        "{found} files may be open at a time, expected at least {LEAST}: raise the limit (ulimit -n {ASKED})"
    ))
}
