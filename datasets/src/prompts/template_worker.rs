//! A template that could fill the memory is rendered in a process that may not (laws L9, L10): fuel counts its steps, of which one may
//! double a text. What cannot grow (`foreign::may_grow`) is done here.
//!
//! The process is the command itself, `demask render-templates`: it bounds its own memory, and is asked by frames. Where none was named
//! ([`use_program`]) everything is done in place.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use demask_api::wire;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::example::Turn;

/// The command that renders what it is asked for.
pub const COMMAND: &str = "render-templates";
/// Bytes of memory that it may ask for beside what it has at its start.
pub const MOST_MEMORY: u64 = 512 << 20;
/// The signal of a process that could not have the memory that it asked for.
const SIGABRT: i32 = 6;
/// How long it may take for one template: fuel ends what has no end in a second or two.
const LONGEST: Duration = Duration::from_secs(10);

/// What is asked of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "template", rename_all = "snake_case")]
pub enum TemplateJob {
    /// A conversation.
    Chat {
        /// The template.
        source: String,
        /// Who says what.
        turns: Vec<Turn>,
        /// Special tokens by the names that templates call them by.
        names: BTreeMap<String, String>,
    },
    /// A row's columns.
    Row {
        /// The template.
        source: String,
        /// The columns.
        row: Map<String, Value>,
    },
}

/// The text, or why there is none.
pub type Rendered = Result<String, String>;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
static WORKER: Mutex<Option<TemplateWorker>> = Mutex::new(None);

/// Names the command, which renders what could grow from then on; the first that is named stays.
pub fn use_program(path: PathBuf) {
    PROGRAM.set(path).ok();
}

/// What the process makes of a job; none where there is no such process to ask.
pub(super) fn rendered(job: &TemplateJob) -> Option<Rendered> {
    let program = PROGRAM.get()?;
    let mut worker = WORKER.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = match &mut *worker {
        Some(running) => running.ask(job),
        none => match TemplateWorker::start(program) {
            Ok(started) => none.insert(started).ask(job),
            Err(error) => {
                let words = format!("{} {COMMAND} cannot be started: {error}", program.display());
                return Some(Err(words));
            }
        },
    };
    match asked {
        Ok(rendered) => Some(rendered),
        Err(why) => {
            // What it was doing is lost with it; the next template gets another.
            *worker = None;
            Some(Err(why))
        }
    }
}

/// A process that renders.
struct TemplateWorker {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<Rendered>,
}

impl TemplateWorker {
    fn start(program: &std::path::Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(COMMAND).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(jobs), Some(mut said)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("it has no pipes"));
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            while let Ok(Some(answer)) = wire::read::<Rendered>(&mut said) {
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, jobs, answers })
    }

    /// # Errors
    /// In words: it took too long, or died of what it was asked.
    fn ask(&mut self, job: &TemplateJob) -> Result<Rendered, String> {
        if let Err(error) = wire::write(&mut self.jobs, job) {
            return Err(match error.kind() {
                io::ErrorKind::InvalidData => error.to_string(),
                _ => self.how_it_ended(),
            });
        }
        match self.answers.recv_timeout(LONGEST) {
            Ok(rendered) => Ok(rendered),
            Err(RecvTimeoutError::Timeout) => Err(format!("it takes longer than {} s", LONGEST.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Err(self.how_it_ended()),
        }
    }

    /// In words: memory that could not be had aborts it, or the system kills it.
    fn how_it_ended(&mut self) -> String {
        self.child.kill().ok();
        match self.child.wait() {
            Ok(status) if status.signal() == Some(SIGABRT) => {
                format!("it takes more than {} MiB of memory", MOST_MEMORY >> 20)
            }
            Ok(status) => format!("the process that renders it ended: {status}"),
            Err(error) => format!("the process that renders it ended: {error}"),
        }
    }
}

impl Drop for TemplateWorker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
