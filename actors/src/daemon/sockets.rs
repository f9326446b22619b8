//! Sockets that killed engines have left behind.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::home::Home;

/// Returns the engine sockets in the home's folder of sockets that no process has open. The folder may hold sockets of
/// other homes' engines too.
#[must_use]
pub fn stale(home: &Home) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home.socket_dir())
        .into_iter()
        .flatten()
        .flatten();
    let mut stale: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("engine-") && name.ends_with(".sock") && is_socket(&entry.path())
        })
        .map(|entry| entry.path())
        .filter(|path| is_dead(path))
        .collect();
    stale.sort();
    stale
}

/// Removes them and returns their number.
pub fn sweep(home: &Home) -> usize {
    let swept = stale(home)
        .into_iter()
        .filter(|path| std::fs::remove_file(path).is_ok());
    swept.count()
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.file_type().is_socket())
}

/// Returns whether no process has the socket open. The probe is a datagram socket: its connect never blocks, and a
/// living engine notices nothing, because the system refuses the connection to a stream socket as one of the wrong
/// type.
fn is_dead(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_nobody_has_open_is_dead_and_what_somebody_has_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, alive) = (folder.path().join("dead"), folder.path().join("alive"));
        drop(UnixListener::bind(&dead).unwrap());
        let listener = UnixListener::bind(&alive).unwrap();
        assert!(is_dead(&dead) && !is_dead(&alive) && is_socket(&dead));
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(listener);
        assert!(is_dead(&alive) && !is_dead(&folder.path().join("nothing")));
    }
}
