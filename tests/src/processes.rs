//! Processes of this machine, from `/proc`.

use std::time::{Duration, Instant};

/// How long a process that has been told to end, or whose parent is gone, may take: a bound for a test that has failed.
const LONGEST_END: Duration = Duration::from_secs(120);

/// A process's state and its parent; none when it is not there.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything, come the state and the parent.
    let mut after = stat.rsplit(") ").next()?.split(' ');
    Some((after.next()?.chars().next()?, after.next()?.parse().ok()?))
}

/// Whether a process is there, and no zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The living children of a process.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(state, of)| state != 'Z' && of == parent))
        .collect()
}

/// Waits until a process has ended.
///
/// # Panics
/// When it does not.
pub async fn wait_for_end(pid: i32) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < LONGEST_END, "process {pid} does not end");
        tokio::task::yield_now().await;
    }
}
