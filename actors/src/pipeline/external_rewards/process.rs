//! The process transport of an external reward: one line of JSON in, one line of JSON out. Dropping it kills the
//! process with all processes that it started. If the daemon is killed, the system kills it.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::profile::ExternalReward;

/// Longest answer in bytes.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;
/// Longest line of the log in bytes; a longer one is split.
const LONGEST_WORDS: u64 = 4000;
/// Last lines of a process's standard error that an error message repeats.
const LAST_WORDS: usize = 5;
/// Longest wait for the end of a process that closed its output.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A running process.
#[derive(Debug)]
pub(super) struct RewardProcess {
    child: Child,
    /// Process group, which has the process's number.
    group: Option<i32>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: JoinHandle<()>,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl RewardProcess {
    /// Starts the process.
    ///
    /// # Errors
    /// A message if the program cannot be started.
    pub(super) fn start(reward: &ExternalReward, run: &str) -> Result<Self, String> {
        let folder = reward.folder.as_deref().unwrap_or(Path::new("."));
        let words: Vec<String> = reward
            .command
            .iter()
            .map(|word| filled_in(word, reward, run, folder))
            .collect();
        let (program, arguments) = words.split_first().ok_or("it has no command")?;
        // A path of a program is relative to the reward's folder, not to the daemon's.
        let found = match program.contains('/') {
            true => folder.join(program),
            false => program.into(),
        };
        let mut command = Command::new(&found);
        command
            .args(arguments)
            .current_dir(folder)
            .env("DEMASK_RUN", run)
            .env("DEMASK_REWARD", &reward.name)
            // Without this, Python buffers its output lines.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(|error| {
            format!(
                "cannot start {} in {}: {error}",
                found.display(),
                folder.display()
            )
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err("it has no pipes".to_owned());
        };
        let said = Arc::<Mutex<VecDeque<String>>>::default();
        let errors = tokio::spawn(hear(reward.name.clone(), errors, Arc::clone(&said)));
        Ok(Self {
            child,
            group,
            input,
            output: BufReader::new(output),
            errors,
            said,
        })
    }

    /// Sends a line and waits for a line.
    ///
    /// # Errors
    /// A message if the process ended, with its status and last output, or if its answer is too long.
    pub(super) async fn ask(&mut self, line: &[u8]) -> Result<String, String> {
        let Self { input, output, .. } = self;
        let write = async {
            input.write_all(line).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        // The process may answer before it has read everything, so writing and reading run concurrently.
        let (_, read) = tokio::join!(write, next_line(output));
        match read {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.last_words().await),
            Err(error) => Err(error),
        }
    }

    /// Describes how the process ended.
    async fn last_words(&mut self) -> String {
        let ended = tokio::time::timeout(LAST_BREATH, self.child.wait()).await;
        let how = match ended {
            Ok(Ok(status)) => format!("it ended ({status})"),
            _ => "it closed its output".to_owned(),
        };
        tokio::time::timeout(LAST_BREATH, &mut self.errors).await.ok();
        format!("{how}{}", self.said_last())
    }

    /// Returns the last lines of its standard error for a message.
    pub(super) fn said_last(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.is_empty() {
            true => String::new(),
            false => format!(
                "; its last output: {}",
                said.iter().cloned().collect::<Vec<_>>().join(" | ")
            ),
        }
    }
}

impl Drop for RewardProcess {
    fn drop(&mut self) {
        self.errors.abort();
        if let Some(group) = self.group {
            // SAFETY: the signal goes to the group that was made for this process, which contains the processes that it
            // started.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

/// Replaces the placeholders in a word of the command.
fn filled_in(word: &str, reward: &ExternalReward, run: &str, folder: &Path) -> String {
    word.replace("{run}", run)
        .replace("{name}", &reward.name)
        .replace("{folder}", &folder.to_string_lossy())
}

/// Makes the system kill the process when the thread that started it ends, which is the daemon's first thread.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let arm = move || {
        // SAFETY: both calls are safe between fork and exec, and touch no memory.
        let (armed, now) = unsafe {
            (
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
                libc::getppid(),
            )
        };
        match armed == 0 && i64::from(now) == i64::from(parent) {
            true => Ok(()),
            false => Err(std::io::Error::other("the daemon ended in the meantime")),
        }
    };
    // SAFETY: the code between fork and exec allocates nothing unless it fails.
    unsafe { command.pre_exec(arm) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// Returns the next line that is not empty; `None` at the end.
async fn next_line(output: &mut BufReader<ChildStdout>) -> Result<Option<String>, String> {
    loop {
        let mut bytes = Vec::new();
        let mut within = output.take(LONGEST_ANSWER as u64);
        let read = within.read_until(b'\n', &mut bytes).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Ok(None);
        }
        if bytes.len() == LONGEST_ANSWER {
            return Err(format!("its answer is longer than {} MiB", LONGEST_ANSWER >> 20));
        }
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        if !line.is_empty() {
            return Ok(Some(line));
        }
    }
}

/// Writes standard error to the log, line by line, and keeps the last lines.
async fn hear(name: String, errors: ChildStderr, said: Arc<Mutex<VecDeque<String>>>) {
    let mut errors = BufReader::new(errors);
    loop {
        let mut bytes = Vec::new();
        let mut within = (&mut errors).take(LONGEST_WORDS);
        match within.read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        if line.trim().is_empty() {
            continue;
        }
        tracing::info!("reward {name}: {line}");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LAST_WORDS {
            said.pop_front();
        }
        said.push_back(line);
    }
}
