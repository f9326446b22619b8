//! A daemon in a home of its own, its runs, and what its store tells.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::options::Options;
use crate::programs::{Home, program};

/// Interval at which the store is asked for a run's progress.
pub const LOOK: Duration = Duration::from_millis(50);

/// A daemon for this section, which is stopped on drop.
pub struct Daemon<'a> {
    options: &'a Options,
    home: Home,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// Starts a daemon in a fresh home.
    ///
    /// # Errors
    /// Returns an error if it ends at once.
    pub fn start(options: &'a Options, name: &str) -> anyhow::Result<Self> {
        let home = Home::fresh(name)?;
        let log = std::fs::File::create(home.path().join("daemon.out"))?;
        let mut start = command(options, home.path(), &["daemon", "start", "--foreground"]);
        let child = start.stderr(log).spawn().context("demask daemon")?;
        let mut daemon = Self { options, home, child };
        while !daemon.command(&["daemon", "status"]).status()?.success() {
            let ended = daemon.child.try_wait()?;
            ensure!(ended.is_none(), "the daemon ended: {ended:?}");
            std::thread::sleep(LOOK);
        }
        Ok(daemon)
    }

    /// Returns the process of the daemon.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the daemon's home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.options, self.home.path(), arguments)
    }

    /// Writes a profile and returns its path.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn profile(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.home.path().join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Starts a run and a process that follows it to its end.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn follow(&self, file: &str, flags: &[&str]) -> anyhow::Result<Child> {
        let log = std::fs::File::create(self.home.path().join("run.out"))?;
        let mut command = self.command(&["run", "--headless", "--profile", file]);
        command.args(flags).stderr(log.try_clone()?).stdout(log);
        command.spawn().context("demask run")
    }

    /// Runs a profile to its end and returns the seconds it took.
    ///
    /// # Errors
    /// Returns an error with the last words of a run that fails.
    pub fn run(&self, name: &str, text: &str, flags: &[&str]) -> anyhow::Result<f64> {
        let file = self.profile(name, text)?;
        let began = Instant::now();
        let ended = self.follow(&file, flags)?.wait()?;
        ensure!(ended.success(), "the run {name}: {ended}: {}", self.words());
        Ok(began.elapsed().as_secs_f64())
    }

    /// Returns the number that a query yields, or 0 while there is no store.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn count(&self, sql: &str) -> anyhow::Result<i64> {
        let first = self.column(sql)?.into_iter().next();
        Ok(first.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Returns the rows of a query for one column without commas; none while there is no store.
    ///
    /// # Errors
    /// Returns an error if the program cannot be started.
    pub fn column(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        let out = self
            .command(&["query", sql, "--format", "csv", "--limit", "0"])
            .stdout(Stdio::piped())
            .output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        Ok(text.lines().skip(1).map(|line| line.trim().to_owned()).collect())
    }

    /// Returns what the daemon's log says of the sandbox of the engine that it started last.
    pub fn sandbox(&self) -> String {
        let text = std::fs::read_to_string(self.home.path().join("daemon.out")).unwrap_or_default();
        let told = text
            .lines()
            .rev()
            .find_map(|line| line.split_once("engine, process "));
        told.map_or("the log says nothing of it", |(_, words)| words)
            .to_owned()
    }

    /// Returns the last line that the following process printed.
    pub fn words(&self) -> String {
        let text = std::fs::read_to_string(self.home.path().join("run.out")).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or_default().chars().take(200).collect()
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(options: &Options, home: &Path, arguments: &[&str]) -> Command {
    let mut command = program(options, "demask");
    command
        .arg("--home")
        .arg(home)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Returns the living children of a process, from `/proc`.
pub fn children(parent: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let born_of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state and the parent follow the process name, which may contain any character.
        let mut after = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        after.next().is_some_and(|state| state != "Z")
            && after.next().is_some_and(|found| found == parent.to_string())
    };
    pids.filter(born_of).collect()
}
