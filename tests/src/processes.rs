//! Processes of this machine, by `/proc`.

use std::time::{Duration, Instant};

/// The time in which a process must end after it was told to, or after its parent is gone; a longer time fails the
/// test.
const LONGEST_END: Duration = Duration::from_secs(120);

/// Returns a process's state and parent; `None` if it does not exist.
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state and the parent follow the name, which may contain anything.
    let mut after = stat.rsplit(") ").next()?.split(' ');
    Some((after.next()?.chars().next()?, after.next()?.parse().ok()?))
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Returns the living children of a process.
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
/// If it does not.
pub async fn wait_for_end(pid: i32) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < LONGEST_END, "process {pid} does not end");
        tokio::task::yield_now().await;
    }
}
