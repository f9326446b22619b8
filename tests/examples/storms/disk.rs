//! A disk that is full and has room again: a small file system of its own, in a mount namespace of this storm.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use demask_tests::dice::Dice;

use crate::fire::Fire;

/// Set within the namespace.
const INSIDE: &str = "DEMASK_STORM_INSIDE";
/// MiB of the disk.
const SIZE: u32 = 48;
/// How long it is full, at most.
const FULL_MS: u64 = 1500;

/// Whether this process stands on the small disk.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Has a process of this program do the rounds on the small disk; 0, or 1 when any failed.
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
        // The sockets' names must stay short.
        .env_remove("XDG_RUNTIME_DIR")
        .status();
    u32::from(!status.is_ok_and(|status| status.success()))
}

/// Leaves no room for a while; now and then the daemon is killed meanwhile, and there is room when the next one comes.
pub async fn fill_and_free(fire: &mut Fire, dice: &mut Dice) {
    let path = fire.place.path().join("filler");
    let mut filler = File::create(&path).expect("a file");
    let block = vec![0; 64 << 10];
    while filler.write_all(&block).is_ok() {}
    fire.hear_for(Duration::from_millis(dice.below(FULL_MS))).await;
    let free = || std::fs::remove_file(&path).expect("the filler");
    if dice.below(4) == 0 {
        // Not through an order: on a full disk it is not acknowledged.
        fire.kill_daemon_unasked(free).await;
    } else {
        free();
    }
    fire.weigh();
    fire.struck.blows += 1;
}
