//! A process that does for another one what could exhaust the memory (law L9): subcommands that programs call.

use anyhow::Context as _;

/// Leaves signals to the caller, and limits the memory to `bytes` beyond its present use.
///
/// A Ctrl-C or the end of a batch job goes to all processes of a group. The caller of this one may need it until it has
/// saved what it does, and this process ends with its caller's pipes.
///
/// # Errors
/// An error if the limit cannot be set.
pub fn begin(bytes: u64) -> anyhow::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the call takes two numbers, and no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    bound(bytes)
}

/// Limits this process to `bytes` of memory beyond its present use, disables core dumps, and lets the system end this
/// process before others when memory is short.
///
/// # Errors
/// An error if the limit cannot be set.
fn bound(bytes: u64) -> anyhow::Result<()> {
    // Where this is not allowed, nothing else fails.
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .next()
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: the call returns a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let most = pages.unwrap_or(0).saturating_mul(page).saturating_add(bytes);
    for (resource, most) in [(libc::RLIMIT_AS, most), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the call reads the limit that is given.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error()).context("the memory limit could not be set");
        }
    }
    Ok(())
}
