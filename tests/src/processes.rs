//! Processes of this machine, by `/proc`.

use crate::patience::until;

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

/// Returns the folders that an engine may write to, by its command line; `None` for another program.
fn writes(pid: i32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let words: Vec<&str> = line.split('\0').collect();
    let given: Vec<&str> = words
        .windows(2)
        .filter(|pair| pair[0] == "--writes")
        .map(|pair| pair[1])
        .collect();
    let folders = || given.iter().filter(|folder| !folder.is_empty());
    (!given.is_empty()).then(|| folders().map(|&folder| folder.to_owned()).collect())
}

/// Returns a daemon's engines that only sample: they may write to no folder.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn sampling_engines(daemon: i32) -> Vec<i32> {
    let samples = |&pid: &i32| writes(pid).is_some_and(|folders| folders.is_empty());
    children(daemon).into_iter().filter(samples).collect()
}

/// Returns a daemon's engines that train: they may write checkpoints.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn training_engines(daemon: i32) -> Vec<i32> {
    let trains = |&pid: &i32| writes(pid).is_some_and(|folders| !folders.is_empty());
    children(daemon).into_iter().filter(trains).collect()
}

/// Waits until a process has ended.
///
/// # Panics
/// If it does not.
pub async fn wait_for_end(pid: i32) {
    until(&format!("the end of process {pid}"), || !is_alive(pid)).await;
}
