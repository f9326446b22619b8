//! `demask daemon` and `demask attach`: control of the background process that owns runs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use demask_actors::control::client::ClientError;
use demask_actors::engine::join::listen::JoinDoor;
use demask_actors::engine::liveness::is_stopped;
use demask_actors::home::{Home, open_log};
use demask_actors::runtime::log::{self, LogWriter};
use demask_storage::{Command as Ask, Reply, visible};

use crate::args::{DaemonCommand, Images, LogFormat};
use crate::commands::experiment::control;
use crate::connection::line::{self, Line};
use crate::connection::reach::{LOOK, PATIENCE, reach};
use crate::terminal::print;

/// Time after which `daemon stop` says for the first time why the daemon has not ended.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// Time after each signal in which a daemon that did not answer may end.
const FORCE_WAIT: Duration = Duration::from_secs(2);

/// Runs the subcommand of `demask daemon`.
///
/// # Errors
/// An error if a daemon does not start or does not end.
pub fn daemon(home: &Home, options: DaemonCommand) -> anyhow::Result<ExitCode> {
    match options {
        DaemonCommand::Start {
            foreground,
            log_format,
            listen,
            join_file,
        } => {
            let file = join_file.map(std::path::absolute).transpose()?;
            let door = listen.zip(file).map(|(address, file)| JoinDoor { address, file });
            begin(home, foreground, log_format, door)?;
        }
        DaemonCommand::Stop => stop(home)?,
        DaemonCommand::Status(output) => return status(home, output.json),
        DaemonCommand::Logs { lines, follow } => logs(home, lines, follow)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves the home, or starts a process that does.
fn begin(home: &Home, foreground: bool, log: LogFormat, door: Option<JoinDoor>) -> anyhow::Result<()> {
    if foreground {
        log_to_stderr(log).context("the log")?;
        let served = demask_actors::daemon::serve(home, door.as_ref());
        log::flush();
        return served;
    }
    if let Some(pid) = home.daemon_pid() {
        bail!(
            "a daemon (process {pid}) already serves the home {}; `demask attach` shows it",
            home.root().display()
        );
    }
    println!(
        "daemon started, process {}",
        start(home, Some(log), door.as_ref())?
    );
    Ok(())
}

/// Returns the process id of the daemon, which is started first if none runs.
///
/// # Errors
/// An error if the daemon ended at once, or did not answer in time.
pub fn ensure(home: &Home) -> anyhow::Result<u32> {
    match reach(home)? {
        Some((pid, _)) => Ok(pid),
        None => start(home, None, None),
    }
}

/// Sends the daemon's log to standard error, which is `daemon.log` if it was started in the background. `RUST_LOG` sets
/// the level. A thread of its own writes the lines (law L10).
fn log_to_stderr(format: LogFormat) -> std::io::Result<()> {
    let writer = LogWriter::begin(std::io::stderr())?.of_process();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_target(false)
        // On a full disk, the report of a failed log line would fail too and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Starts a daemon in the background, with its log in this format if one is given, and at whose door engines join if
/// there is one.
fn start(home: &Home, log_format: Option<LogFormat>, door: Option<&JoinDoor>) -> anyhow::Result<u32> {
    let log = home.log();
    std::fs::create_dir_all(log.parent().unwrap_or(home.root())).with_context(|| {
        let root = home.root().display();
        format!("the home {root} is not writable; give another with --home or DEMASK_HOME")
    })?;
    let out = open_log(&log).with_context(|| log.display().to_string())?;
    let before = out.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--home")
        .arg(home.root())
        .args(["daemon", "start", "--foreground"]);
    // Without a format the daemon reads DEMASK_LOG_FORMAT, which a flag goes before.
    match log_format {
        Some(LogFormat::Json) => {
            command.args(["--log-format", "json"]);
        }
        Some(LogFormat::Text) => {
            command.args(["--log-format", "text"]);
        }
        None => {}
    }
    if let Some(door) = door {
        // The name was resolved already, and an address is a name for itself.
        command.args(["--listen", &door.address.0.to_string()]);
        command.arg("--join-file").arg(&door.file);
    }
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    // In a process group of its own, the daemon does not get a Ctrl-C that is meant for the dashboard.
    answering(home, command.process_group(0).spawn()?, before)
}

/// Waits for the daemon that was started, or for one that another process started at the same time and that locked the
/// home first. Returns the process id of the one that holds the home.
fn answering(home: &Home, mut child: Child, before: u64) -> anyhow::Result<u32> {
    let (log, deadline) = (home.log(), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        let ended = child.try_wait()?;
        // The daemon both answers and holds the home. A socket alone may belong to a daemon that is ending.
        if let (Ok(_), Some(pid)) = (line::connect(home), home.daemon_pid()) {
            return Ok(pid);
        }
        // If the started process has ended, another daemon may hold the home by now.
        if let Some(status) = ended.filter(|_| home.daemon_pid().is_none()) {
            let said = said_since(&log, before).unwrap_or_default();
            bail!(
                "the daemon exited during startup ({status}; its log is {}): {said}",
                log.display()
            );
        }
        std::thread::sleep(LOOK);
    }
    bail!(
        "the daemon did not answer within {} s; see {}",
        PATIENCE.as_secs(),
        log.display()
    )
}

/// Returns the last line that was written to a log after this many bytes.
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
    let Some((pid, mut daemon)) = reach(home)? else {
        println!("no daemon is running");
        return Ok(());
    };
    match daemon.ask(Ask::Shutdown) {
        Ok(Reply::Accepted { message, .. } | Reply::Refused { message }) => print::note(&message),
        Ok(_) => {}
        Err(error) => {
            return match error.downcast_ref() {
                Some(ClientError::Silent { .. }) => end_by_force(home, pid, &format!("{error:#}")),
                _ => Err(error),
            };
        }
    }
    let (mut asked, mut patience) = (Instant::now(), FIRST_WORD);
    while home.daemon_pid() == Some(pid) {
        if is_stopped(pid) {
            return end_by_force(
                home,
                pid,
                "the daemon accepted the order, but then its process was suspended",
            );
        }
        if asked.elapsed() > patience {
            (asked, patience) = (Instant::now(), PATIENCE);
            print::note(&still_there(home, pid));
        }
        std::thread::sleep(LOOK);
    }
    println!("daemon stopped");
    Ok(())
}

/// Kills a daemon that does not answer (law L10). Nothing is lost: the next daemon continues the run from its last
/// checkpoint.
fn end_by_force(home: &Home, pid: u32, silence: &str) -> anyhow::Result<()> {
    print::note(silence);
    let signals = [(libc::SIGTERM, "SIGTERM"), (libc::SIGKILL, "SIGKILL")];
    // A stopped process handles no signal but SIGKILL.
    let useless = usize::from(is_stopped(pid));
    for &(signal, name) in &signals[useless..] {
        // SAFETY: the signal goes to the process that holds this home's lock.
        if unsafe { libc::kill(libc::pid_t::try_from(pid)?, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("{name} to process {pid}"));
        }
        let begun = Instant::now();
        while begun.elapsed() < FORCE_WAIT {
            if home.daemon_pid() != Some(pid) {
                println!(
                    "the daemon was ended by {name}; the next daemon continues its run from the last checkpoint"
                );
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
    bail!(
        "the daemon (process {pid}) could not be ended, not even by SIGKILL: the operating system blocks it"
    )
}

/// Says why the daemon may need time: a long step, or a disk that is full or does not answer.
fn still_there(home: &Home, pid: u32) -> String {
    let asked = line::connect(home).and_then(|mut daemon| daemon.ask(Ask::Status));
    let at = match asked {
        Ok(Reply::Status(overview)) if overview.detail.is_empty() => control::line(&overview),
        Ok(Reply::Status(overview)) => overview.detail,
        _ => format!("its log is {}", home.log().display()),
    };
    format!(
        "the daemon (process {pid}) has not ended yet: {at}; Ctrl-C stops waiting, and the daemon ends by itself; where the \
         disk does not answer, `demask daemon stop` again ends it without the rows that the disk has not confirmed, and \
         nothing acknowledged is lost"
    )
}

fn status(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    if let Some((pid, daemon)) = reach(home)? {
        return up(home, pid, daemon, json);
    }
    if json {
        print::json(&serde_json::json!({ "running": false }))?;
    } else {
        println!("no daemon is running on {}", home.root().display());
    }
    Ok(ExitCode::from(crate::exit::FAILED))
}

/// Prints the status of a running daemon; `ps` prints what its actors do.
fn up(home: &Home, pid: u32, mut daemon: Line, json: bool) -> anyhow::Result<ExitCode> {
    let Reply::Status(overview) = daemon.ask(Ask::Status)? else {
        bail!("the daemon did not answer with its status");
    };
    let (root, log) = (home.root(), home.log());
    if json {
        print::json(&serde_json::json!({
            "running": true, "pid": pid, "home": root, "log": log, "socket": home.socket()?, "overview": overview,
        }))?;
    } else {
        println!("the daemon of {} is running, process {pid}", root.display());
        println!("its log is {}", log.display());
        print::say(&control::line(&overview));
    }
    Ok(ExitCode::SUCCESS)
}

fn logs(home: &Home, lines: usize, follow: bool) -> anyhow::Result<()> {
    let path = home.log();
    if !path.is_file() {
        bail!(
            "{}: no daemon has served this home yet; `demask daemon start` starts one",
            path.display()
        );
    }
    let mut input = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
    let all: Vec<String> = input.by_ref().lines().collect::<Result<_, _>>()?;
    for line in &all[all.len().saturating_sub(lines)..] {
        print::say(line);
    }
    if !follow {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? > 0 {
            print!("{}", visible::lines(&line));
            continue;
        }
        // A log that became shorter was rotated.
        if std::fs::metadata(&path)?.len() < input.stream_position()? {
            input = BufReader::new(File::open(&path)?);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Runs `demask attach`: opens the dashboard of the running daemon.
///
/// # Errors
/// An error if there is no daemon, or if standard output is not a terminal.
pub fn attach(home: &Home, images: Images) -> anyhow::Result<ExitCode> {
    if home.daemon_pid().is_none() {
        bail!("no daemon is running for this home; `demask run` starts one");
    }
    if !std::io::stdout().is_terminal() {
        bail!("the dashboard needs a terminal; `demask ps` prints the status of the run");
    }
    crate::terminal::dashboard::open(home, images)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    /// A home in a temporary folder, which is removed with its socket.
    struct TemporaryHome {
        root: PathBuf,
        home: Home,
    }

    impl TemporaryHome {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("demask-{name}-{}", std::process::id()));
            let home = Home::open(Some(root.clone())).unwrap();
            Self { root, home }
        }
    }

    impl Drop for TemporaryHome {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.root).ok();
            std::fs::remove_file(self.home.socket().unwrap()).ok();
        }
    }

    #[test]
    fn who_starts_one_beside_somebody_else_has_that_one() {
        let place = TemporaryHome::new("beside");
        let lock = place.home.lock().unwrap();
        let _listener = UnixListener::bind(place.home.socket().unwrap()).unwrap();
        // This process ends at once, as a daemon does whose home is taken.
        let loser = || Command::new("false").spawn().unwrap();
        assert_eq!(answering(&place.home, loser(), 0).unwrap(), std::process::id());
        drop(lock);
        // Another home is used here, because a child process of another test may hold this process's open files a
        // moment longer.
        let free = TemporaryHome::new("free");
        let said = answering(&free.home, loser(), 0).unwrap_err().to_string();
        assert!(said.contains("exited during startup"), "{said}");
    }
}
