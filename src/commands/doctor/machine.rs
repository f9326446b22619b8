//! Checks of the machine: processor, file descriptors, terminal.

use super::check::{DoctorCheck, Status, check};
use crate::descriptors::limits;

/// Open files below which nothing works for long.
const FEW_FILES: u64 = 64;
/// Open files that a large run may need at a time: shards, connections, processes of rewards.
const ENOUGH_FILES: u64 = 512;

pub(super) fn processor() -> DoctorCheck {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let bf16 = ["amx_bf16", "avx512_bf16"]
        .into_iter()
        .find(|flag| flags.contains(flag));
    let found = format!(
        "{cores} cores, {}",
        bf16.map_or("no fast bf16: training uses f32".to_owned(), |f| format!(
            "bf16 by {f}"
        ))
    );
    check("processor", Status::Ok, found, "")
}

/// Checks how many files a process may open, after this one has raised its limit.
pub(super) fn descriptors() -> DoctorCheck {
    match limits() {
        Some((now, most)) => open_files(now, most),
        None => check("open files", Status::Warn, "the limit is unknown", ""),
    }
}

fn open_files(now: u64, most: u64) -> DoctorCheck {
    let found = format!("at most {now} at one time");
    let raise = format!(
        "run `ulimit -n {}` before the daemon starts; a long run opens shards, connections and reward processes",
        most.min(ENOUGH_FILES * 2)
    );
    match now {
        0..FEW_FILES => check("open files", Status::Fail, found, raise),
        FEW_FILES..ENOUGH_FILES => check("open files", Status::Warn, found, raise),
        _ => check("open files", Status::Ok, found, ""),
    }
}

pub(super) fn terminal() -> DoctorCheck {
    let term = std::env::var("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        return check(
            "terminal",
            Status::Warn,
            format!("TERM is '{term}'"),
            "the dashboard needs a terminal; use --headless here",
        );
    }
    check("terminal", Status::Ok, term, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_open_files_are_told_with_what_to_do() {
        for (now, status) in [(12, Status::Fail), (256, Status::Warn), (1024, Status::Ok)] {
            let row = open_files(now, 4096);
            assert!(row.status == status, "{now}: {}", row.found);
            assert_eq!(row.fix.is_empty(), status == Status::Ok);
        }
        assert!(
            open_files(12, 100).fix.contains("ulimit -n 100"),
            "no more than is allowed"
        );
    }
}
