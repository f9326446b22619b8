//! What a sandboxed engine process may do besides computing. The sandbox cannot be removed again, so each
//! case runs in a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use demask_model::engine::process::sandbox::{SANDBOX, Sandbox};

/// Environment variable of the sandboxed process: the port of a listening socket, and the folder.
const INSIDE: &str = "DEMASK_TEST_SANDBOXED";
/// Environment variable of a process beside a GPU: `rank` or `alone`, and the port.
const BESIDE: &str = "DEMASK_TEST_SANDBOXED_GPU";

/// Runs [`inside`] in a new process that sandboxes itself, and returns its output.
fn held(folder: &Path, port: u16, variables: &[(&str, &str)]) -> String {
    let place = format!("{port} {}", folder.display());
    started("inside", &[&[(INSIDE, place.as_str())][..], variables].concat())
}

/// Runs one of the tests here in a new process and returns its output.
fn started(test: &str, variables: &[(&str, &str)]) -> String {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env_remove(SANDBOX)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{said}");
    said
}

/// The body of the sandboxed process. It does nothing unless [`held`] started it.
#[test]
fn inside() {
    let Ok(told) = std::env::var(INSIDE) else { return };
    let (port, folder) = told.split_once(' ').unwrap();
    let (port, folder): (u16, PathBuf) = (port.parse().unwrap(), folder.into());
    let sandbox = Sandbox {
        writes: Some(vec![folder.join("own")]),
        sockets: Some(folder.join("sockets")),
        network: false,
        gpu: false,
    };
    let held = sandbox.apply();
    println!("held: {held}");
    let off = std::env::var(SANDBOX).is_ok_and(|value| value == "off");
    let refused = |what: &str, done: std::io::Result<()>| {
        let kind = done.as_ref().map_err(std::io::Error::kind);
        let expected = if off {
            Ok(&())
        } else {
            Err(ErrorKind::PermissionDenied)
        };
        assert_eq!(kind, expected, "{what}");
    };
    refused("the network", TcpStream::connect(("127.0.0.1", port)).map(drop));
    refused("a program", Command::new("true").status().map(drop));
    if held.contains("writes everywhere") {
        println!("this kernel has no Landlock");
        return;
    }
    refused("a file", std::fs::write(folder.join("outside"), "x"));
    refused("a file that is there", std::fs::write(folder.join("there"), "x"));
    refused("a folder", std::fs::create_dir(folder.join("made")));
    refused("a removal", std::fs::remove_file(folder.join("precious")));
    refused(
        "a move",
        std::fs::rename(folder.join("own/kept"), folder.join("moved")),
    );
    std::fs::create_dir_all(folder.join("own/deep")).unwrap();
    std::fs::write(folder.join("own/deep/file"), "x").unwrap();
    std::fs::rename(folder.join("own/deep"), folder.join("own/final")).unwrap();
    std::fs::write("/dev/null", "x").unwrap();
    drop(UnixListener::bind(folder.join("sockets/own.sock")).unwrap());
    std::fs::remove_file(folder.join("sockets/own.sock")).unwrap();
    // The sandbox also applies to threads that are started later.
    let later = std::thread::spawn(move || TcpStream::connect(("127.0.0.1", port)).map(drop));
    refused("the network of a thread", later.join().unwrap());
}

fn place() -> (tempfile::TempDir, TcpListener, u16) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["own", "sockets"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in ["there", "precious", "own/kept"] {
        std::fs::write(folder.path().join(name), "as it was").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (folder, listener, port)
}

#[test]
fn an_engine_reaches_no_network_starts_no_program_and_writes_in_its_folder_only() {
    let (folder, _listener, port) = place();
    let said = held(folder.path(), port, &[]);
    assert!(said.contains("no network, no other program"), "{said}");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("there")).unwrap(),
        "as it was"
    );
}

#[test]
fn a_person_can_switch_it_off() {
    let (folder, _listener, port) = place();
    let said = held(folder.path(), port, &[(SANDBOX, "off")]);
    assert!(said.contains("switched off by DEMASK_SANDBOX"), "{said}");
}

/// The body of a process beside a GPU: what NVIDIA's driver and NCCL are known to open is open to it.
#[test]
fn beside_a_gpu() {
    let Ok(told) = std::env::var(BESIDE) else { return };
    let (who, port) = told.split_once(' ').unwrap();
    let (is_rank, port): (bool, u16) = (who == "rank", port.parse().unwrap());
    let sandbox = Sandbox {
        writes: Some(Vec::new()),
        sockets: None,
        network: is_rank,
        gpu: true,
    };
    let netlink = || {
        // SAFETY: the call takes three numbers, and the descriptor is closed by the end of this process.
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }
    };
    let has_netlink = netlink() >= 0;
    println!("held: {}", sandbox.apply());
    // Shared memory between ranks, and the driver's cache of kernels.
    for folder in [PathBuf::from("/dev/shm"), std::env::temp_dir()] {
        let path = folder.join(format!("demask-test-{}", std::process::id()));
        if folder.is_dir() {
            std::fs::write(&path, "x").unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }
    std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/zero")
        .expect("a device");
    // The program that creates missing devices.
    assert!(Command::new("true").status().unwrap().success());
    // Memory that processes map is handed over by Unix sockets, and NCCL reads the network's links by a netlink socket.
    std::os::unix::net::UnixDatagram::pair().unwrap();
    assert_eq!(netlink() >= 0, has_netlink);
    // Ranks meet over TCP, and an engine alone has nobody to meet.
    let met = TcpStream::connect(("127.0.0.1", port)).map(drop);
    let expected = match is_rank {
        true => Ok(()),
        false => Err(ErrorKind::PermissionDenied),
    };
    assert_eq!(met.map_err(|error| error.kind()), expected);
}

#[test]
fn beside_a_gpu_all_is_open_that_its_driver_and_nccl_open() {
    let (_folder, _listener, port) = place();
    for (who, words) in [
        ("alone", "writes everywhere, beside a GPU; no network"),
        (
            "rank",
            "writes everywhere, beside a GPU; network and other programs",
        ),
    ] {
        let told = format!("{who} {port}");
        let said = started("beside_a_gpu", &[(BESIDE, told.as_str())]);
        assert!(said.contains(words), "{said}");
    }
}
