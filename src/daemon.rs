//! `demask daemon` and `demask attach`: the background process that owns runs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use demask_actors::home::Home;
use demask_storage::Command as Ask;

use crate::args::{Daemon, Images};
use crate::{control, print};

/// How long a daemon may take to answer after its start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait between two looks.
const LOOK: Duration = Duration::from_millis(30);

/// Dispatches.
///
/// # Errors
/// A daemon that does not start or end.
pub fn daemon(home: &Home, options: Daemon) -> anyhow::Result<ExitCode> {
    match options {
        Daemon::Start { foreground: true } => demask_actors::daemon::serve(home)?,
        Daemon::Start { foreground: false } => match home.daemon_pid() {
            Some(pid) => bail!(
                "a daemon (process {pid}) has the home {} already; `demask attach` shows it",
                home.root().display()
            ),
            None => println!("daemon started, process {}", start(home)?),
        },
        Daemon::Stop => stop(home)?,
        Daemon::Status(output) => return status(home, output.json),
        Daemon::Logs { lines, follow } => logs(home, lines, follow)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a daemon if none runs; its process id.
///
/// # Errors
/// It ended at once, or did not answer in time.
pub fn ensure(home: &Home) -> anyhow::Result<u32> {
    match home.daemon_pid() {
        Some(pid) => Ok(pid),
        None => start(home),
    }
}

fn start(home: &Home) -> anyhow::Result<u32> {
    let log = home.log();
    std::fs::create_dir_all(log.parent().unwrap_or(home.root())).with_context(|| {
        let root = home.root().display();
        format!("the home {root} cannot be written; name another with --home or DEMASK_HOME")
    })?;
    let out = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| log.display().to_string())?;
    let before = out.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--home")
        .arg(home.root())
        .args(["daemon", "start", "--foreground"]);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // Its own process group: a Ctrl-C meant for the dashboard does not reach it.
    let mut child = command.process_group(0).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            let said = said_since(&log, before).unwrap_or_default();
            bail!(
                "the daemon ended at once ({status}; its log is {}): {said}",
                log.display()
            );
        }
        if control::connect(home).is_ok() {
            return Ok(child.id());
        }
        std::thread::sleep(LOOK);
    }
    bail!(
        "the daemon did not answer within {} s; see {}",
        PATIENCE.as_secs(),
        log.display()
    )
}

/// The last thing in a log that was written after this many bytes.
fn said_since(log: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(bytes))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let last = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Ok(last.strip_prefix("demask: ").unwrap_or(last).to_owned())
}

fn stop(home: &Home) -> anyhow::Result<()> {
    let Some(pid) = home.daemon_pid() else {
        println!("no daemon is running");
        return Ok(());
    };
    control::connect(home)?.ask(Ask::Shutdown)?;
    print::note("finishing the step, checkpointing…");
    let deadline = Instant::now() + PATIENCE;
    while home.daemon_pid() == Some(pid) {
        if Instant::now() > deadline {
            bail!(
                "the daemon (process {pid}) has not ended within {} s; see {}",
                PATIENCE.as_secs(),
                home.log().display()
            );
        }
        std::thread::sleep(LOOK);
    }
    println!("daemon stopped");
    Ok(())
}

fn status(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    if home.daemon_pid().is_some() {
        return control::ps(home, json);
    }
    if json {
        print::json(&serde_json::json!({ "running": false }))?;
    } else {
        println!("no daemon is running on {}", home.root().display());
    }
    Ok(ExitCode::from(crate::FAILED))
}

fn logs(home: &Home, lines: usize, follow: bool) -> anyhow::Result<()> {
    let path = home.log();
    let mut input = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
    let all: Vec<String> = input.by_ref().lines().collect::<Result<_, _>>()?;
    for line in &all[all.len().saturating_sub(lines)..] {
        println!("{line}");
    }
    if !follow {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? > 0 {
            print!("{line}");
            continue;
        }
        // A log that became shorter was rotated.
        if std::fs::metadata(&path)?.len() < input.stream_position()? {
            input = BufReader::new(File::open(&path)?);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `demask attach`: the dashboard on the running daemon.
///
/// # Errors
/// No daemon; no terminal.
pub fn attach(home: &Home, images: Images) -> anyhow::Result<ExitCode> {
    if home.daemon_pid().is_none() {
        bail!("no daemon is running on this home; `demask run` starts one");
    }
    if !std::io::stdout().is_terminal() {
        bail!("the dashboard needs a terminal; `demask ps` prints where the run is");
    }
    crate::dashboard::open(home, images)
}
