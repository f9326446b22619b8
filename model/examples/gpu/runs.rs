//! Complete runs with the engine on the device, through the daemon: UniGRPO steps, and recovery after the
//! engine is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::figure::Teller;
use crate::options::Options;
use crate::programs::{Home, program};

/// A profile with every kind of stage, on a network too small to learn anything.
const SMOKE: &str = include_str!("../../../actors/profiles/smoke.toml");
/// A profile of UniGRPO from the shipped start.
const ALIGN: &str = include_str!("../../../actors/profiles/tabletop-align.toml");

/// Interval at which the store is asked for a run's progress.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the smallest profile with all kinds of stages, and a short alignment.
///
/// # Errors
/// Returns an error with the output of a run that fails.
pub fn unigrpo(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let daemon = Daemon::start(options, "unigrpo")?;
    let seconds = daemon.run("smoke", &on_device(options, SMOKE), &["--from-scratch"])?;
    let steps = daemon.count(POLICY_STEPS)?;
    teller.check(
        "smoke: every kind of stage",
        steps == 2,
        &format!("{seconds:.1} s"),
    );
    let (wanted, batch, group) = if options.small { (1, 2, 2) } else { (6, 24, 8) };
    let stage = format!(
        "[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = {wanted}\nbatch = {batch}\ngroup = {group}\nsources = [\"sums\", \"draw\"]\n\
         learning_rate = 1e-4\nestimator = {{ kind = \"uni_grpo\", spacing = \"cyclic\" }}\n\
         objective = {{ clip = 0.2, kl = 0.01, inner_steps = 2 }}\n"
    );
    let settings = ALIGN.split("[[stage]]").next().unwrap_or_default();
    let profile = on_device(options, &format!("{settings}{stage}"));
    let seconds = daemon.run("align", &profile, &[])?;
    let steps = daemon.count(POLICY_STEPS)? - steps;
    let note = format!("{steps} steps of {batch} groups of {group}, start and end of the run with them");
    teller.check("UniGRPO from the shipped model", steps == wanted, &note);
    teller.found(
        "a UniGRPO step of the tabletop",
        seconds / steps.max(1) as f64,
        "s",
        &note,
    );
    Ok(())
}

const POLICY_STEPS: &str = "SELECT count(*) FROM v_metric WHERE name = 'policy/kl'";

/// Sends SIGKILL to the engine while it works, and checks that the daemon starts another one and that the run
/// ends as done. The section measures the seconds from the kill to the next step.
///
/// # Errors
/// Returns an error with the output of a run that does not go on.
pub fn kill(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let daemon = Daemon::start(options, "kill")?;
    let steps = if options.small { 16 } else { 400 };
    let file = daemon.profile("kill", &on_device(options, SMOKE))?;
    // The second stage is the first that trains the model.
    let longer = format!("stage.1.steps={steps}");
    let mut run = daemon.follow(&file, &["--from-scratch", "--set", &longer])?;
    let learnt = "SELECT count(*) FROM v_metric WHERE name = 'train/loss'";
    while daemon.count(learnt)? < 5 {
        ensure!(
            run.try_wait()?.is_none(),
            "the run ended before it could be killed: {}",
            daemon.words()
        );
        std::thread::sleep(LOOK);
    }
    let engine = |daemon: &Daemon<'_>| children(daemon.child.id()).into_iter().next();
    let first = engine(&daemon).context("no engine to kill")?;
    // SAFETY: the signal goes to the engine that this section's daemon started.
    ensure!(unsafe { libc::kill(first, libc::SIGKILL) } == 0, "kill");
    let began = Instant::now();
    // Metrics of the killed engine may still be on their way to the store when the new engine is already
    // there.
    while engine(&daemon).is_none_or(|engine| engine == first) && run.try_wait()?.is_none() {
        std::thread::sleep(LOOK);
    }
    let before = daemon.count(learnt)?;
    while daemon.count(learnt)? <= before && run.try_wait()?.is_none() {
        std::thread::sleep(LOOK);
    }
    let note = "another engine started, its device opened, the last checkpoint loaded";
    teller.found(
        "from the kill to the next step",
        began.elapsed().as_secs_f64(),
        "s",
        note,
    );
    let ended = run.wait()?;
    let deaths =
        daemon.count("SELECT count(*) FROM v_event WHERE kind = 'alert' AND body LIKE '%actor_failed%'")?;
    let done = daemon.count("SELECT count(*) FROM v_run WHERE status = 'done'")?;
    let note = format!("{ended}, {deaths} told, {}", daemon.words());
    let right = ended.success() && deaths >= 1 && done == 1;
    teller.check(
        "a run whose engine was killed ends",
        right,
        if right { "" } else { &note },
    );
    Ok(())
}

/// Returns the profile with its `[engine]` section replaced: the engine runs on the device, in its default
/// dtype.
fn on_device(options: &Options, profile: &str) -> String {
    let text = profile.split("[engine]").collect::<Vec<_>>();
    let rest = match text.as_slice() {
        [before, after] => {
            let next = after.find("\n[").map_or("", |at| &after[at..]);
            format!("{before}{next}")
        }
        _ => profile.to_owned(),
    };
    format!("{rest}\n[engine]\ndevice = \"{}\"\n", options.device)
}

/// A daemon for this section, which is stopped on drop.
struct Daemon<'a> {
    options: &'a Options,
    home: Home,
    child: Child,
}

impl<'a> Daemon<'a> {
    fn start(options: &'a Options, name: &str) -> anyhow::Result<Self> {
        let home = Home::fresh(name)?;
        let log = std::fs::File::create(home.path().join("daemon.out"))?;
        let child = command(options, home.path(), &["daemon", "start", "--foreground"])
            .stderr(log)
            .spawn()
            .context("demask daemon")?;
        let mut daemon = Self { options, home, child };
        while !daemon.command(&["daemon", "status"]).status()?.success() {
            let ended = daemon.child.try_wait()?;
            ensure!(ended.is_none(), "the daemon ended: {ended:?}");
            std::thread::sleep(LOOK);
        }
        Ok(daemon)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.options, self.home.path(), arguments)
    }

    fn profile(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.home.path().join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Starts a run and a process that follows it to its end.
    fn follow(&self, file: &str, flags: &[&str]) -> anyhow::Result<Child> {
        let log = std::fs::File::create(self.home.path().join("run.out"))?;
        let mut command = self.command(&["run", "--headless", "--profile", file]);
        command.args(flags).stderr(log.try_clone()?).stdout(log);
        command.spawn().context("demask run")
    }

    /// Runs a profile to its end and returns the seconds it took.
    fn run(&self, name: &str, text: &str, flags: &[&str]) -> anyhow::Result<f64> {
        let file = self.profile(name, text)?;
        let began = Instant::now();
        let ended = self.follow(&file, flags)?.wait()?;
        ensure!(ended.success(), "the run {name}: {ended}: {}", self.words());
        Ok(began.elapsed().as_secs_f64())
    }

    /// Returns the number that a query yields, or 0 while there is no store.
    fn count(&self, sql: &str) -> anyhow::Result<i64> {
        let out = self
            .command(&["query", sql, "--format", "csv"])
            .stdout(Stdio::piped())
            .output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        Ok(text
            .lines()
            .nth(1)
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(0))
    }

    /// Returns the last line that the following process printed.
    fn words(&self) -> String {
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
fn children(parent: u32) -> Vec<i32> {
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
