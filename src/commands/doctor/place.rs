//! Checks of the home: its folder, its sockets, its disk, its daemon.

use demask_actors::daemon::sockets;
use demask_actors::home::{Home, free_bytes};

use super::check::{DoctorCheck, Status, check};

pub(super) fn home_writable(home: &Home) -> DoctorCheck {
    let probe = home.root().join(".doctor");
    let tried = std::fs::create_dir_all(home.root()).and_then(|()| std::fs::write(&probe, b"x"));
    std::fs::remove_file(&probe).ok();
    let place = home.root().display().to_string();
    match tried {
        Ok(()) => check("home", Status::Ok, place, ""),
        Err(error) => check(
            "home",
            Status::Fail,
            format!("{place}: {error}"),
            "give a folder that you may write to with --home or DEMASK_HOME",
        ),
    }
}

/// Checks the folder of the sockets, which another user may own.
pub(super) fn runtime_folder(home: &Home) -> DoctorCheck {
    let name = "runtime folder";
    match home.make_socket_dir() {
        Ok(folder) => check(name, Status::Ok, folder.display().to_string(), ""),
        Err(error) => check(
            name,
            Status::Fail,
            error.to_string(),
            "set XDG_RUNTIME_DIR to a folder of your own with a short path; the sockets of the daemon and the engines are there",
        ),
    }
}

/// Checks for sockets of killed engines.
pub(super) fn left_sockets(home: &Home) -> DoctorCheck {
    let left = sockets::stale(home);
    let Some(one) = left.first() else {
        return check("sockets", Status::Ok, "no sockets were left behind", "");
    };
    let found = format!(
        "sockets left behind by killed engines: {}, such as {}",
        left.len(),
        one.display()
    );
    check(
        "sockets",
        Status::Warn,
        found,
        "the daemon removes them when it starts next",
    )
}

pub(super) fn disk_space(home: &Home) -> DoctorCheck {
    const ENOUGH: u64 = 2 << 30;
    let Some(free) = free_bytes(home.root()) else {
        return check("disk", Status::Warn, "the free space is unknown", "");
    };
    let found = format!("{:.1} GB free", free as f64 / 1e9);
    if free < ENOUGH {
        return check(
            "disk",
            Status::Warn,
            found,
            "a long run keeps several checkpoints: free some space or move the home",
        );
    }
    check("disk", Status::Ok, found, "")
}

pub(super) fn shipped() -> DoctorCheck {
    match demask_actors::inference::shipped::folder() {
        Ok(folder) => check("shipped model", Status::Ok, folder.display().to_string(), ""),
        Err(error) => check(
            "shipped model",
            Status::Fail,
            format!("{error:#}"),
            "set DEMASK_SHIPPED to its folder; without it, use --checkpoint, or --from-scratch for a run",
        ),
    }
}

pub(super) fn daemon(home: &Home) -> DoctorCheck {
    match home.daemon_pid() {
        Some(pid) => check("daemon", Status::Ok, format!("running, process {pid}"), ""),
        None => check("daemon", Status::Ok, "not running (`demask run` starts it)", ""),
    }
}
