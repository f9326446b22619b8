//! A separate process that renders templates which could exhaust the memory (laws L9, L10). Fuel bounds a template's
//! steps, but each step may double a text. Templates that cannot grow (`foreign::may_grow`) are rendered in this
//! process.
//!
//! The process runs `demask render-templates`, which limits its own memory and exchanges frames over its pipes. Without
//! a registered program ([`use_program`]), everything is rendered in place.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use demask_api::wire;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::example::Turn;

/// The subcommand that renders templates.
pub const COMMAND: &str = "render-templates";
/// The most bytes of memory that the process may allocate beyond those at its start.
pub const MOST_MEMORY: u64 = 512 << 20;
/// The signal that ends a process whose allocation failed.
const SIGABRT: i32 = 6;
/// The longest time for one template; fuel ends endless loops within a second or two.
const LONGEST: Duration = Duration::from_secs(10);

/// A request to the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "template", rename_all = "snake_case")]
pub enum TemplateJob {
    /// A conversation.
    Chat {
        /// The template.
        source: String,
        /// The turns.
        turns: Vec<Turn>,
        /// Special tokens by their names in templates.
        names: BTreeMap<String, String>,
    },
    /// A row.
    Row {
        /// The template.
        source: String,
        /// The columns.
        row: Map<String, Value>,
    },
}

/// The text, or the reason why there is none.
pub type Rendered = Result<String, String>;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
static WORKER: Mutex<Option<TemplateWorker>> = Mutex::new(None);

/// Registers the program that renders templates which could grow. The first registration stays.
pub fn use_program(path: PathBuf) {
    PROGRAM.set(path).ok();
}

/// Renders a job in the process; `None` if no program is registered.
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
            // The failed process is discarded; the next template starts another.
            *worker = None;
            Some(Err(why))
        }
    }
}

/// The running process.
struct TemplateWorker {
    child: Child,
    jobs: ChildStdin,
    answers: Receiver<Rendered>,
}

impl TemplateWorker {
    fn start(program: &std::path::Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg0("demask").arg(COMMAND).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(jobs), Some(mut said)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the renderer process has no pipes"));
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

    /// Renders a job.
    ///
    /// # Errors
    /// A message if it took too long or the process died.
    fn ask(&mut self, job: &TemplateJob) -> Result<Rendered, String> {
        if let Err(error) = wire::write(&mut self.jobs, job) {
            return Err(match error.kind() {
                io::ErrorKind::InvalidData => error.to_string(),
                _ => self.how_it_ended(),
            });
        }
        match self.answers.recv_timeout(LONGEST) {
            Ok(rendered) => Ok(rendered),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("rendering takes longer than {} s", LONGEST.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.how_it_ended()),
        }
    }

    /// Says how the process ended: an allocation beyond the limit aborts it, or the system kills it.
    fn how_it_ended(&mut self) -> String {
        self.child.kill().ok();
        match self.child.wait() {
            Ok(status) if status.signal() == Some(SIGABRT) => {
                format!("rendering takes more than {} MiB of memory", MOST_MEMORY >> 20)
            }
            Ok(status) => format!("the renderer process ended: {status}"),
            Err(error) => format!("the renderer process ended: {error}"),
        }
    }
}

impl Drop for TemplateWorker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
