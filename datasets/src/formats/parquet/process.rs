//! A separate process that reads Parquet files, which could otherwise exhaust the memory (laws L9, L10): a page is
//! unpacked whole, with gzip as far as it goes, and a list may repeat a long value.
//!
//! The process runs `demask read-parquet`, which limits its own memory. A job arrives as a frame on its standard input;
//! what was read leaves as frames on its standard output, a row each. The pipe and a bounded channel let it read a few
//! long rows ahead, or some kilobytes of short ones, and no more (law L2). It ends with its caller: its input ends then,
//! and its output cannot be written. Without a registered program ([`use_program`]), files are read in place.

use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use demask_api::wire;
use serde::{Deserialize, Serialize};

/// The subcommand that reads Parquet files.
pub const COMMAND: &str = "read-parquet";
/// The most bytes of memory that the process may allocate beyond those at its start. Few rows are held at a time
/// (`file.rs`), but a page is held twice, packed and unpacked, and Arrow's writer puts up to 1024 values into one, such
/// as pictures of a megabyte each.
pub const MOST_MEMORY: u64 = 2 << 30;
/// The longest time for one row or picture. A disk on the network may be away for a while.
const LONGEST: Duration = Duration::from_secs(300);
/// The most pieces of output ([`PIECE`]) that were read and not asked for, beside what is in the pipe.
const AHEAD: usize = 2;
/// The bytes of output that are passed on together, as many as a pipe holds. To pass on each short row takes longer
/// than to read it. A longer row ends a piece.
const PIECE: usize = 64 << 10;
/// The signal that ends a process whose allocation failed.
const SIGABRT: i32 = 6;
/// The reason of a frame that was not due.
pub(super) const UNEXPECTED: &str = "the reader process did not answer what it was asked";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Registers the program that reads Parquet files. The first registration stays.
pub fn use_program(path: PathBuf) {
    PROGRAM.set(path).ok();
}

/// What the process reads. Paths are bytes, because they need not be UTF-8.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::formats) enum ParquetJob {
    /// The rows of a source's file.
    Source {
        /// The file.
        file: Vec<u8>,
        /// The columns that are read beside those that readers know.
        named: Vec<String>,
        /// Whether all columns are read.
        whole: bool,
    },
    /// The rows of a benchmark's table, without its pictures.
    Table {
        /// The file.
        file: Vec<u8>,
    },
    /// A picture of a table.
    Picture {
        /// Its place, as `StoredPicture::to_bytes` has it.
        place: Vec<u8>,
    },
}

/// Returns a path as it is in a job.
pub(in crate::formats) fn raw(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// A frame of the process's output.
pub(super) enum ParquetFrame {
    /// The file is open; its rows follow.
    Opened,
    /// A row's fields.
    Row(Vec<u8>),
    /// There are no more rows.
    End,
    /// Why the file cannot be opened or read further, or a picture cannot be read.
    Failed(String),
    /// The bytes of a picture file.
    Picture(Vec<u8>),
    /// The bytes of the picture file are null.
    NoPicture,
}

impl ParquetFrame {
    /// Returns the frame's body: what it carries, and its kind.
    pub(super) fn into_body(self) -> Vec<u8> {
        let (mut body, kind) = match self {
            Self::Opened => (Vec::new(), 0),
            Self::Row(bytes) => (bytes, 1),
            Self::End => (Vec::new(), 2),
            Self::Failed(why) => (why.into_bytes(), 3),
            Self::Picture(bytes) => (bytes, 4),
            Self::NoPicture => (Vec::new(), 5),
        };
        body.push(kind);
        body
    }

    fn of(mut body: Vec<u8>) -> Option<Self> {
        Some(match body.pop()? {
            0 => Self::Opened,
            1 => Self::Row(body),
            2 => Self::End,
            3 => Self::Failed(String::from_utf8_lossy(&body).into_owned()),
            4 => Self::Picture(body),
            5 => Self::NoPicture,
            _ => return None,
        })
    }
}

/// Says that the process has reached its limit of memory.
pub(super) fn over_memory() -> String {
    format!("reading takes more than {} MiB of memory", MOST_MEMORY >> 20)
}

/// The running process. It is killed and waited for when this is dropped.
pub(in crate::formats) struct ParquetProcess {
    child: Child,
    jobs: ChildStdin,
    frames: Receiver<Vec<ParquetFrame>>,
    /// The frames of the last piece that were not asked for yet.
    passed_on: std::vec::IntoIter<ParquetFrame>,
}

impl ParquetProcess {
    /// Starts the registered program; `None` if there is none.
    pub(super) fn start() -> Option<Result<Self, String>> {
        let program = PROGRAM.get()?;
        let started = Self::start_program(program);
        Some(started.map_err(|error| format!("{} {COMMAND} cannot be started: {error}", program.display())))
    }

    fn start_program(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg0("demask").arg(COMMAND).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(jobs), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the reader process has no pipes"));
        };
        let (sender, frames) = sync_channel(AHEAD);
        let passed_on = Vec::new().into_iter();
        let started = Self {
            child,
            jobs,
            frames,
            passed_on,
        };
        let thread = std::thread::Builder::new().name("parquet".to_owned());
        thread.spawn(move || pass_on(output, &sender))?;
        Ok(started)
    }

    /// Gives the process a job.
    ///
    /// # Errors
    /// A message if the process died.
    pub(super) fn ask(&mut self, job: &ParquetJob) -> Result<(), String> {
        wire::write(&mut self.jobs, job).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => error.to_string(),
            _ => self.how_it_ended(),
        })
    }

    /// Returns the next frame.
    ///
    /// # Errors
    /// A message if it took too long or the process died.
    pub(super) fn frame(&mut self) -> Result<ParquetFrame, String> {
        loop {
            if let Some(frame) = self.passed_on.next() {
                return Ok(frame);
            }
            match self.frames.recv_timeout(LONGEST) {
                Ok(frames) => self.passed_on = frames.into_iter(),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("reading takes longer than {} s", LONGEST.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.how_it_ended()),
            }
        }
    }

    /// Whether the process is there. The system ends it before others when memory is short.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Says how the process ended: an allocation beyond the limit aborts it, or the system kills it.
    fn how_it_ended(&mut self) -> String {
        self.child.kill().ok();
        match self.child.wait() {
            Ok(status) if status.signal() == Some(SIGABRT) => over_memory(),
            Ok(status) => format!("the reader process ended: {status}"),
            Err(error) => format!("the reader process ended: {error}"),
        }
    }
}

impl Drop for ParquetProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Passes frames on until the process or its caller is gone.
fn pass_on(output: ChildStdout, sender: &SyncSender<Vec<ParquetFrame>>) {
    let mut output = BufReader::with_capacity(PIECE, output);
    let mut is_open = true;
    while is_open {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while is_open && (frames.is_empty() || bytes < PIECE && !output.buffer().is_empty()) {
            let body = wire::read_frame(&mut output).ok().flatten().unwrap_or_default();
            bytes += body.len();
            match ParquetFrame::of(body) {
                Some(frame) => frames.push(frame),
                None => is_open = false,
            }
        }
        is_open &= sender.send(frames).is_ok();
    }
}
