//! The process of an external reward: a line of JSON in, a line of JSON out. It is ended with all that it started when it is
//! dropped, and by the system when the daemon is killed.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::profile::ExternalReward;

/// Bytes of an answer, at most.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;
/// Bytes of a line of the log, at most: a longer one is several.
const LONGEST_WORDS: u64 = 4000;
/// Lines of a dead process that an error message repeats.
const LAST_WORDS: usize = 5;
/// How long one that closed its output may take to end.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A running process.
#[derive(Debug)]
pub(super) struct RewardProcess {
    child: Child,
    /// Its group, which has its number.
    group: Option<i32>,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: JoinHandle<()>,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl RewardProcess {
    /// Starts it.
    ///
    /// # Errors
    /// In words: the program that cannot be started, and why.
    pub(super) fn start(reward: &ExternalReward, run: &str) -> Result<Self, String> {
        let folder = reward.folder.as_deref().unwrap_or(Path::new("."));
        let words: Vec<String> = reward
            .command
            .iter()
            .map(|word| filled_in(word, reward, run, folder))
            .collect();
        let (program, arguments) = words.split_first().ok_or("it has no command")?;
        // A program beside the profile is named from its folder, not from the daemon's.
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
            // Python keeps lines back otherwise.
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
            return Err("it was given no pipes".to_owned());
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

    /// Sends a line and waits for one.
    ///
    /// # Errors
    /// In words: it ended, with its status and last words, or its answer is too long.
    pub(super) async fn ask(&mut self, line: &[u8]) -> Result<String, String> {
        let Self { input, output, .. } = self;
        let write = async {
            input.write_all(line).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        // It may answer before it has read all, and neither must wait for the other.
        let (_, read) = tokio::join!(write, next_line(output));
        match read {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.last_words().await),
            Err(error) => Err(error),
        }
    }

    /// How it ended.
    async fn last_words(&mut self) -> String {
        let ended = tokio::time::timeout(LAST_BREATH, self.child.wait()).await;
        let how = match ended {
            Ok(Ok(status)) => format!("it ended ({status})"),
            _ => "it closed its output".to_owned(),
        };
        tokio::time::timeout(LAST_BREATH, &mut self.errors).await.ok();
        format!("{how}{}", self.said_last())
    }

    /// The last lines of its standard error, for a message.
    pub(super) fn said_last(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.is_empty() {
            true => String::new(),
            false => format!(
                "; it said last: {}",
                said.iter().cloned().collect::<Vec<_>>().join(" | ")
            ),
        }
    }
}

impl Drop for RewardProcess {
    fn drop(&mut self) {
        self.errors.abort();
        if let Some(group) = self.group {
            // SAFETY: a signal to the group that was made for this process; what it started is in it.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

/// A word of the command with what the placeholders stand for.
fn filled_in(word: &str, reward: &ExternalReward, run: &str, folder: &Path) -> String {
    word.replace("{run}", run)
        .replace("{name}", &reward.name)
        .replace("{folder}", &folder.to_string_lossy())
}

/// The system kills it when the thread that started it, the daemon's first, is gone.
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
            false => Err(std::io::Error::other("the daemon ended meanwhile")),
        }
    };
    // SAFETY: what runs between fork and exec allocates nothing unless it fails.
    unsafe { command.pre_exec(arm) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// The next line that is not empty; none at the end.
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

/// Its standard error goes to the log line by line, and the last ones are remembered.
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
