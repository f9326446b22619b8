//! Several engines of one machine as one world: they train together, and only rank 0 receives requests
//! (`model`'s `world`).
//!
//! The ranks meet over the loopback, in a store that rank 0 serves on a socket that this process has bound.
//! The port is therefore never free between its choice and its use, and no other machine can reach it. All
//! ranks share one fate (law L1): the end of any rank is the end of the engine.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Variables of other launchers, which would place the ranks in another world.
const FOREIGN: [&str; 3] = [
    "DEMASK_WORLD_STORE",
    "TORCHELASTIC_USE_AGENT_STORE",
    "SLURM_PROCID",
];

/// The place where the ranks of a world that is being started meet.
#[derive(Debug)]
pub(super) struct Meeting {
    listener: TcpListener,
    port: u16,
    ranks: usize,
}

impl Meeting {
    /// Binds a socket for `ranks` ranks to meet.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn of(ranks: usize) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        Ok(Self {
            listener,
            port,
            ranks,
        })
    }

    /// Adds a rank's arguments and variables to the command line of its engine.
    pub fn invite(&self, command: &mut Command, rank: usize) {
        for variable in FOREIGN {
            command.env_remove(variable);
        }
        command
            .args(["--world", "env"])
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("LOCAL_WORLD_SIZE", self.ranks.to_string())
            .env("WORLD_SIZE", self.ranks.to_string())
            .env("MASTER_ADDR", Ipv4Addr::LOCALHOST.to_string())
            .env("MASTER_PORT", self.port.to_string())
            .env("TORCHELASTIC_RESTART_COUNT", "0");
        if rank == 0 {
            let socket = self.listener.as_raw_fd();
            command.env("DEMASK_WORLD_SOCKET", socket.to_string());
            // SAFETY: `fcntl` may be called between fork and exec. The meeting, and with it the socket, lives
            // until the engine has been started.
            unsafe {
                command.pre_exec(move || match libc::fcntl(socket, libc::F_SETFD, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
        }
    }

    /// Starts all ranks but the first, each with a standard error of its own.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn start_others(
        &self,
        command: impl Fn() -> Command,
        mut errors: impl FnMut() -> std::io::Result<Stdio>,
    ) -> std::io::Result<Others> {
        let (say, ended) = watch::channel(None);
        // If one cannot be started, the drop of this value ends those that were.
        let mut others = Others {
            waiting: Vec::new(),
            ended,
        };
        for rank in 1..self.ranks {
            let mut command = command();
            self.invite(&mut command, rank);
            let mut child = command.stderr(errors()?).spawn()?;
            let say = say.clone();
            others.waiting.push(tokio::spawn(async move {
                let status = child.wait().await;
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                say.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(format!("rank {rank} of its world ended ({how})"));
                    is_first
                });
            }));
        }
        Ok(others)
    }
}

/// All ranks but the first. They are killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Others {
    waiting: Vec<JoinHandle<()>>,
    ended: watch::Receiver<Option<String>>,
}

impl Others {
    /// Waits until one of them has ended, and returns how it ended.
    pub async fn lost(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.map(|how| how.clone()) {
            Ok(how) => how.unwrap_or_default(),
            // There are no other ranks, so the wait never ends.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        // Each task owns its process, which is killed when it is dropped.
        for task in &self.waiting {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    use super::*;

    /// How long the end of a killed process is waited for.
    const LONGEST_END: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn ranks_that_were_started_end_if_another_one_cannot_be() {
        let (mut open, held) = UnixStream::pair().unwrap();
        let mut held = Some(held);
        let command = || {
            // It gets the arguments of a rank as well.
            let mut command = Command::new("sh");
            command.args(["-c", "exec sleep 600"]).kill_on_drop(true);
            command
        };
        let errors = || {
            let held = held.take().map(|held| Stdio::from(OwnedFd::from(held)));
            held.ok_or_else(|| std::io::Error::other("the disk is full"))
        };
        let started = Meeting::of(3).unwrap().start_others(command, errors);
        assert!(started.is_err());
        // Only the rank that was started has the other end, which closes with it.
        let closed = spawn_blocking(move || open.read(&mut [0]).unwrap());
        assert_eq!(timeout(LONGEST_END, closed).await.unwrap().unwrap(), 0);
    }

    /// A rank chooses its GPU by its number on this machine.
    #[test]
    fn a_rank_is_told_its_number_here_and_how_many_there_are() {
        let mut command = Command::new("engine");
        Meeting::of(3).unwrap().invite(&mut command, 2);
        let value = |name: &str| {
            let mut given = command.as_std().get_envs();
            given
                .find_map(|(key, value)| (key == name).then_some(value))
                .flatten()
        };
        for (name, expected) in [("RANK", "2"), ("LOCAL_RANK", "2"), ("LOCAL_WORLD_SIZE", "3")] {
            assert_eq!(value(name), Some(OsStr::new(expected)), "{name}");
        }
        assert_eq!(value("SLURM_PROCID"), None);
    }
}
