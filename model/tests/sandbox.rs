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

/// Runs [`inside`] in a new process that sandboxes itself, and returns its output.
fn held(folder: &Path, port: u16, variables: &[(&str, &str)]) -> String {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture"])
        .env(INSIDE, format!("{port} {}", folder.display()))
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
