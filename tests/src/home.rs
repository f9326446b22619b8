//! A home in a temporary folder, the command `demask` with this home, and the daemon that serves it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use demask_actors::control::client::Client;
use demask_actors::home::Home;
use demask_actors::runtime::fault_injection::DISK_FAULT;
use demask_actors::runtime::loop_watch::LATE_LOOP;

use crate::patience::Patience;
use crate::processes::children;

/// Returns the folder of the built programs, two levels above the test's own file.
///
/// # Panics
/// If the test does not run from a build folder.
#[must_use]
pub fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/test")
        .to_owned()
}

/// A home in a temporary folder, and the daemon that serves it.
#[derive(Debug)]
pub struct Place {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            daemon: None,
        }
    }
}

impl Place {
    /// Returns the home's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the home.
    ///
    /// # Panics
    /// Never for a folder that exists.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::open(Some(self.path().to_owned())).expect("a home")
    }

    /// Makes a command of `demask` with this home.
    #[must_use]
    pub fn demask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("demask"));
        command
            .arg("--home")
            .arg(self.path())
            .args(arguments)
            // L10: a daemon ends at once if something computes on its event loop for too long.
            .env(LATE_LOOP, "fatal")
            .stdin(Stdio::null());
        command
    }

    /// Runs `demask` to its end.
    ///
    /// # Panics
    /// If it cannot be started: the programs must be built first, as `make test` does.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.demask(arguments)
            .output()
            .expect("the built demask; `make test` builds it first")
    }

    /// Runs a profile file from random weights to its end.
    ///
    /// # Panics
    /// Those of [`Self::run`].
    #[must_use]
    pub fn run_profile(&self, file: &Path) -> Output {
        let file = file.to_string_lossy();
        self.run(&["run", "--headless", "--from-scratch", "--profile", &file])
    }

    /// Starts the daemon, waits until it answers, and returns the connection.
    ///
    /// # Panics
    /// If the daemon ends instead.
    pub async fn serve(&mut self) -> Client {
        self.serve_with(&[]).await
    }

    /// Like [`Self::serve`], with additional environment variables.
    ///
    /// # Panics
    /// If the daemon ends instead.
    pub async fn serve_with(&mut self, variables: &[(&str, &Path)]) -> Client {
        self.serve_as(&[], variables).await
    }

    /// Returns the join file of a daemon with a door.
    #[must_use]
    pub fn join_file(&self) -> PathBuf {
        self.path().join("join")
    }

    /// Like [`Self::serve`], with a door on the loopback at which engines join.
    ///
    /// # Panics
    /// If the daemon ends instead.
    pub async fn serve_at_door(&mut self) -> Client {
        let file = self.join_file();
        let door = ["--listen", "127.0.0.1", "--join-file", &file.to_string_lossy()];
        self.serve_as(&door, &[]).await
    }

    async fn serve_as(&mut self, arguments: &[&str], variables: &[(&str, &Path)]) -> Client {
        let mut command = self.demask(&["daemon", "start", "--foreground"]);
        command.args(arguments);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("daemon.out"))
            .expect("a log");
        command.stdout(Stdio::null()).stderr(log);
        command
            .env_remove("DEMASK_ENGINE_FAULT")
            .env_remove(DISK_FAULT)
            .envs(variables.iter().copied());
        let mut child = command.spawn().expect("the built demask");
        let home = self.home();
        let patience = Patience::default();
        loop {
            // The listening socket of a killed daemon may live on briefly in a process that another test forks, so a
            // connection counts only if it answers.
            if let Ok(mut client) = Client::connect(&home, "test").await
                && client.ask(demask_storage::Command::Status).await.is_ok()
            {
                self.daemon = Some(child);
                return client;
            }
            let ended = child.try_wait().expect("a child can be asked");
            let said = std::fs::read_to_string(self.path().join("daemon.out")).unwrap_or_default();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{said}");
            patience
                .next_look(|| format!("the daemon's first answer\n{said}"))
                .await;
        }
    }

    /// Kills the daemon with `kill -9`.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon to kill");
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
    }

    /// Kills the daemon's engine with `kill -9`; false if there is none at the moment.
    ///
    /// # Panics
    /// If there is no daemon.
    pub fn kill_engine(&self) -> bool {
        let daemon = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let daemon = daemon.expect("a daemon whose engine to kill");
        let Some(engine) = children(daemon).into_iter().next() else {
            return false;
        };
        // SAFETY: sends a signal to a process that its parent, our child, has not been seen to reap.
        unsafe { libc::kill(engine, libc::SIGKILL) == 0 }
    }

    /// Returns the daemon's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Waits for a daemon that has ended by itself.
    ///
    /// # Panics
    /// If there was none.
    pub fn forget(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon that has ended");
        daemon.wait().expect("wait");
    }

    /// Sends SIGTERM to the daemon; returns its exit code.
    ///
    /// # Panics
    /// If there is none.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("a daemon to end");
        let pid = i32::try_from(daemon.id()).expect("a process id");
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        daemon.wait().expect("wait").code()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}

/// Returns the standard output and standard error of a program.
#[must_use]
pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[out.stdout.as_slice(), &out.stderr].concat()).into_owned()
}
