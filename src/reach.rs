//! A connection to the daemon that has a home. One that is starting does not answer yet, one that is ending not any more:
//! it is waited for until it answers or is gone.

use std::time::Duration;

use anyhow::bail;
use demask_actors::home::Home;

use crate::line::{self, Line};
use crate::print;

/// How long a daemon may take to answer after its start, and to end before it is told why not.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait between two looks.
pub const LOOK: Duration = Duration::from_millis(30);

/// The daemon's process, and a connection to it; none when nobody has the home.
///
/// # Errors
/// It does not answer in time.
pub fn reach(home: &Home) -> anyhow::Result<Option<(u32, Line)>> {
    reach_by(home, &mut || std::thread::sleep(LOOK))
}

/// A connection for a command that is of no use without a daemon.
///
/// # Errors
/// Nobody has the home; it does not answer in time.
pub fn connect(home: &Home) -> anyhow::Result<Line> {
    match reach(home)? {
        Some((_, line)) => Ok(line),
        // It says that there is none, and what starts one.
        None => line::connect(home),
    }
}

/// As [`reach`], with what is done between two looks.
fn reach_by(home: &Home, wait: &mut dyn FnMut()) -> anyhow::Result<Option<(u32, Line)>> {
    let most = PATIENCE.as_millis() / LOOK.as_millis();
    for look in 0..=most {
        let Some(pid) = home.daemon_pid() else {
            return Ok(None);
        };
        match line::connect(home) {
            Ok(line) => return Ok(Some((pid, line))),
            Err(_) if look == most => bail!(
                "the daemon (process {pid}) did not answer within {} s; see {}",
                PATIENCE.as_secs(),
                home.log().display()
            ),
            Err(_) if look == 0 => {
                print::note(&format!(
                    "waiting for the daemon (process {pid}), which is starting or ending"
                ));
            }
            Err(_) => {}
        }
        wait();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_daemon_that_is_starting_is_waited_for_one_that_ends_is_gone_and_one_that_is_stuck_is_told() {
        let root = std::env::temp_dir().join(format!("demask-reached-{}", std::process::id()));
        let home = Home::open(Some(root.clone())).unwrap();
        let reached = |wait: &mut dyn FnMut()| reach_by(&home, wait).map(|found| found.map(|(pid, _)| pid));
        assert_eq!(
            reached(&mut || unreachable!("nobody has the home")).unwrap(),
            None
        );
        let mut lock = Some(home.lock().unwrap());
        let mut looks = 0;
        let stuck = reached(&mut || looks += 1).unwrap_err().to_string();
        assert!(
            stuck.contains("did not answer within 60 s") && looks == 2000,
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
}
