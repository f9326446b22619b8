//! A limit on the memory of this process, for subcommands that do what could exhaust it (law L9).

use anyhow::Context as _;

/// Limits this process to `bytes` of memory beyond its present use, disables core dumps, and lets the system end this
/// process before others when memory is short.
///
/// # Errors
/// An error if the limit cannot be set.
pub fn bound(bytes: u64) -> anyhow::Result<()> {
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
