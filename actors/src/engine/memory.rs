//! Memory use of an engine's process, as the system reports it.

/// Returns the resident memory of a process and its peak, in bytes; 0 where the system does not report it.
#[must_use]
pub fn resident(pid: u64) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_some_memory_and_never_more_than_its_peak() {
        let (now, peak) = resident(u64::from(std::process::id()));
        assert!(now > 100_000 && now <= peak, "{now} {peak}");
        assert_eq!(resident(u64::MAX), (0, 0));
    }
}
