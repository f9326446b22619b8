//! The machine that a process runs on.

/// The longest name of a machine that Linux allows, in bytes.
const LONGEST: usize = 64;

/// Returns the name of this machine, for rows and frames that say where something was done; empty where the system does
/// not report it.
#[must_use]
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().chars().take(LONGEST).collect()
}
