//! A full disk that gets space again: a small file system in a mount namespace of this storm.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use demask_tests::dice::Dice;

use crate::fire::Fire;

/// A variable that is set inside the namespace.
const INSIDE: &str = "DEMASK_STORM_INSIDE";
/// The size of the disk in MiB.
const SIZE: u32 = 48;
/// The longest time for which it is full.
const FULL_MS: u64 = 1500;

/// Whether this process runs on the small disk.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the rounds in a process on the small disk; returns 0, or 1 if any failed.
pub fn inside(seed: u64, first: u64, count: u32) -> u32 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = format!(
        "mount -t tmpfs -o size={SIZE}m tmpfs \"$TMPDIR\" && exec \"$0\" --seed {seed} --first {first} disk={count}"
    );
    let own = std::env::current_exe().expect("a program has a path");
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(own)
        .env(INSIDE, "1")
        .env("TMPDIR", folder.path())
        // The paths of sockets must stay short.
        .env_remove("XDG_RUNTIME_DIR")
        .status();
    u32::from(!status.is_ok_and(|status| status.success()))
}

/// Fills the disk for a while. Sometimes the daemon is killed meanwhile, and there is space when the next one starts.
pub async fn fill_and_free(fire: &mut Fire, dice: &mut Dice) {
    let path = fire.place.path().join("filler");
    let mut filler = File::create(&path).expect("a file");
    let block = vec![0; 64 << 10];
    while filler.write_all(&block).is_ok() {}
    fire.hear_for(Duration::from_millis(dice.below(FULL_MS))).await;
    let free = || std::fs::remove_file(&path).expect("the filler");
    if dice.below(4) == 0 {
        // Without a command before it, which a full disk would not let the daemon acknowledge.
        fire.kill_daemon_unasked(free).await;
    } else {
        free();
    }
    fire.weigh();
    fire.struck.blows += 1;
}
