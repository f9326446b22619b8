//! Processes of this program as ranks of a world, each with a log and marks in a folder of its world.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use demask_model::world::environment::STORE_FILE;

use crate::options::Options;
use crate::programs::Home;

/// Interval at which a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The ranks of a world. They are killed on drop.
pub struct Peers {
    ranks: Vec<Child>,
    home: Home,
}

impl Peers {
    /// Starts a rank for each device in the scene with this name (`scenes.rs`).
    ///
    /// # Errors
    /// Returns errors of the system.
    pub fn start(options: &Options, scene: &str, devices: &[String]) -> anyhow::Result<Self> {
        let mut peers = Self {
            ranks: Vec::new(),
            home: Home::fresh(&scene.replace(' ', "-"))?,
        };
        // The marks of an earlier world of this scene would be taken for those of this one.
        std::fs::remove_dir_all(peers.home.path())?;
        std::fs::create_dir_all(peers.home.path())?;
        for (rank, device) in devices.iter().enumerate() {
            let log = File::create(log(peers.home.path(), rank))?;
            let mut command = Command::new(std::env::current_exe()?);
            command
                .args(["rank", scene])
                .args(options.flags())
                // The last of several flags counts.
                .args(["--device", device.as_str()])
                .env(STORE_FILE, peers.home.path().join("store"))
                .env("RANK", rank.to_string())
                .env("LOCAL_RANK", rank.to_string())
                .env("WORLD_SIZE", devices.len().to_string())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            peers.ranks.push(command.spawn().context("a rank")?);
        }
        Ok(peers)
    }

    /// Waits until a rank has set its mark ([`set_mark`]).
    ///
    /// # Errors
    /// Returns an error with the rank's last words if it ends before, or if the time limit is over.
    pub fn wait_for_mark(&mut self, rank: usize, limit: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        let path = mark(self.home.path(), rank);
        while !path.exists() {
            if let Some(status) = self.ranks[rank].try_wait()? {
                anyhow::bail!(
                    "rank {rank} ended before its time: {status}: {}",
                    self.words(rank)
                );
            }
            let seconds = limit.as_secs();
            ensure!(
                began.elapsed() < limit,
                "rank {rank} was not ready within {seconds} s"
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Sends a signal to a rank.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn signal(&self, rank: usize, signal: i32) -> anyhow::Result<()> {
        let pid = i32::try_from(self.ranks[rank].id())?;
        // SAFETY: the signal goes to a child of this process that has not been waited for.
        let done = unsafe { libc::kill(pid, signal) };
        ensure!(done == 0, "signal {signal}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Waits until a rank has ended; `None` if it has not within the time limit.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn end(&mut self, rank: usize, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            let ended = self.ranks[rank].try_wait()?;
            if ended.is_some() || began.elapsed() > limit {
                return Ok(ended);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Returns the last line that a rank wrote to its standard error.
    pub fn words(&self, rank: usize) -> String {
        let bytes = std::fs::read(log(self.home.path(), rank)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it says nothing")
            .trim()
            .chars()
            .take(200)
            .collect()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            rank.kill().ok();
            rank.wait().ok();
        }
    }
}

/// Sets the mark of this process, which is the rank `rank` of a world that meets in the file `store`.
///
/// # Errors
/// Returns errors of the file system.
pub fn set_mark(store: &Path, rank: usize) -> anyhow::Result<()> {
    let folder = store.parent().context("the store file is in no folder")?;
    Ok(std::fs::write(mark(folder, rank), "")?)
}

fn mark(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("rank-{rank}.mark"))
}

fn log(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("rank-{rank}.log"))
}
