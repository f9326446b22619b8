//! Connecting to the daemon of a home. A starting daemon does not answer yet, and an ending one does not answer any
//! more, so the command waits until the daemon answers or is gone.

use std::time::Duration;

use anyhow::bail;
use demask_actors::control::client::ClientError;
use demask_actors::home::Home;

use crate::connection::line::{self, Line};
use crate::terminal::print;

/// Longest wait for a daemon to answer after its start, or to end.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two attempts.
pub const LOOK: Duration = Duration::from_millis(30);

/// Returns the daemon's process id and a connection to it; `None` if no daemon holds the home.
///
/// # Errors
/// An error if the daemon does not answer in time, or at once for an error that waiting does not cure.
pub fn reach(home: &Home) -> anyhow::Result<Option<(u32, Line)>> {
    reach_by(home, || line::connect(home), &mut || std::thread::sleep(LOOK))
}

/// Returns a connection, for a command that needs a daemon.
///
/// # Errors
/// An error if no daemon holds the home, or if it does not answer in time.
pub fn connect(home: &Home) -> anyhow::Result<Line> {
    match reach(home)? {
        Some((_, line)) => Ok(line),
        // This fails with the error that says how to start a daemon.
        None => line::connect(home),
    }
}

/// Implements [`reach`] with the given ways to connect and to wait between two attempts.
fn reach_by<T>(
    home: &Home,
    connect: impl Fn() -> anyhow::Result<T>,
    wait: &mut dyn FnMut(),
) -> anyhow::Result<Option<(u32, T)>> {
    let most = PATIENCE.as_millis() / LOOK.as_millis();
    for look in 0..=most {
        let Some(pid) = home.daemon_pid() else {
            return Ok(None);
        };
        let error = match connect() {
            Ok(line) => return Ok(Some((pid, line))),
            Err(error) => error,
        };
        // Only a daemon that does not listen is waited for; any other error would remain.
        let Some(ClientError::NotRunning { cause, .. }) = error.downcast_ref() else {
            return Err(error);
        };
        if look == most {
            bail!(
                "the daemon (process {pid}) did not answer within {} s ({cause}); see {}",
                PATIENCE.as_secs(),
                home.log().display()
            );
        }
        if look == 0 {
            print::note(&format!(
                "waiting for the daemon (process {pid}), which is starting or ending"
            ));
        }
        wait();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_actors::home::HomeError;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_daemon_that_is_starting_is_waited_for_one_that_ends_is_gone_and_one_that_is_stuck_is_told() {
        let root = std::env::temp_dir().join(format!("demask-reached-{}", std::process::id()));
        let home = Home::open(Some(root.clone())).unwrap();
        let reached = |wait: &mut dyn FnMut()| {
            reach_by(&home, || line::connect(&home), wait).map(|found| found.map(|(pid, _)| pid))
        };
        assert_eq!(
            reached(&mut || unreachable!("nobody has the home")).unwrap(),
            None
        );
        let mut lock = Some(home.lock().unwrap());
        let mut looks = 0;
        let stuck = reached(&mut || looks += 1).unwrap_err().to_string();
        assert!(
            stuck.contains("did not answer within 60 s (No such file") && looks == 2000,
            "{looks}: {stuck}"
        );
        let mut listener = None;
        let answers = reached(&mut || {
            let bound = UnixListener::bind(home.socket().unwrap()).unwrap();
            assert!(listener.replace(bound).is_none(), "it answers at the next look");
        });
        assert_eq!(answers.unwrap(), Some(std::process::id()));
        drop(listener);
        assert_eq!(reached(&mut || drop(lock.take())).unwrap(), None, "it has ended");
        std::fs::remove_file(home.socket().unwrap()).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_waiting_does_not_mend_is_told_at_once_in_its_own_words() {
        let root = std::env::temp_dir().join(format!("demask-unreached-{}", std::process::id()));
        let home = Home::open(Some(root.clone())).unwrap();
        let lock = home.lock().unwrap();
        let foreign = || -> anyhow::Result<()> {
            let path = home.socket_dir();
            let (found, expected) = (1, 2);
            Err(ClientError::from(HomeError::Foreign {
                path,
                found,
                expected,
            })
            .into())
        };
        let mut unmended = || unreachable!("it is not waited for");
        let words = reach_by(&home, foreign, &mut unmended).unwrap_err().to_string();
        assert!(
            words.contains("belongs to user 1, expected 2") && words.contains("set XDG_RUNTIME_DIR"),
            "{words}"
        );
        let refused = || -> anyhow::Result<()> {
            let (socket, cause) = (home.socket_dir(), std::io::ErrorKind::PermissionDenied.into());
            Err(ClientError::Refused { socket, cause }.into())
        };
        let words = reach_by(&home, refused, &mut unmended).unwrap_err().to_string();
        assert!(words.contains("permission denied"), "{words}");
        drop(lock);
        std::fs::remove_dir_all(root).unwrap();
    }
}
