//! A detector of things in drawings that is no part of the program (GenEval's): a program that is asked a line at a time, or a
//! file of what one said before.
//!
//! The program gets `{"image": NAME, "path": PNG, "classes": […]}` a line and answers a line
//! `{"detections": {CLASS: [[x1, y1, x2, y2, score], …]}, "colors": {CLASS: [NAME, …]}}`; a file has the same objects, a line a
//! picture, with `image` in each.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a picture may take; the first also loads the detector.
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes of an answer, at most (law L9).
const LONGEST: u64 = 16 << 20;
/// The largest file of detections, in bytes (law L9).
const LARGEST: u64 = 1 << 30;

/// A detector.
#[derive(Debug)]
pub enum Detector {
    /// A program, started when it is first asked.
    Program {
        /// The program and its arguments.
        command: Vec<String>,
        /// It, once it was started.
        process: Box<Mutex<Option<Process>>>,
        /// Where pictures are laid for it.
        room: tempfile::TempDir,
    },
    /// What one said of each picture, by its name.
    File(HashMap<String, Value>),
}

/// A running detector.
#[derive(Debug)]
pub struct Process {
    /// Ends with this.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Detector {
    /// The program of a command line, its words parted by spaces.
    ///
    /// # Errors
    /// There is no word; no folder can be made for pictures.
    pub fn program(command: &str) -> Result<Self, String> {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err("the detector's command is empty".to_owned());
        }
        let room =
            tempfile::tempdir().map_err(|error| format!("no folder for pictures can be made: {error}"))?;
        Ok(Self::Program {
            command,
            process: Box::new(Mutex::new(None)),
            room,
        })
    }

    /// A file of detections.
    ///
    /// # Errors
    /// It cannot be read, is too large, or a line is none: which, and what was expected.
    pub fn file(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("{}: {why}", path.display());
        let length = path.metadata().map_err(|error| named(error.to_string()))?.len();
        if length > LARGEST {
            return Err(named(format!("has {length} bytes; at most {LARGEST} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let mut all = HashMap::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let wrong = || {
                format!(
                    "{}:{number}: an object with image and detections was expected",
                    path.display()
                )
            };
            let said: Value = serde_json::from_str(line).map_err(|_| wrong())?;
            let image = said["image"].as_str().ok_or_else(wrong)?.to_owned();
            if !said["detections"].is_object() {
                return Err(wrong());
            }
            all.insert(image, said);
        }
        Ok(Self::File(all))
    }

    /// What it says of a picture, as JSON.
    ///
    /// # Errors
    /// In words: it cannot be started, ended, was silent for too long, or a file does not have the picture.
    pub async fn detect(&self, image: &str, png: &[u8], classes: &[String]) -> Result<String, String> {
        match self {
            Self::File(all) => match all.get(image) {
                Some(said) => Ok(said.to_string()),
                None => Err(format!("the file of detections has no picture {image}")),
            },
            Self::Program {
                command,
                process,
                room,
            } => {
                let path = room.path().join("picture.png");
                let mut held = process.lock().await;
                tokio::fs::write(&path, png)
                    .await
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                if held.is_none() {
                    *held = Some(start(command)?);
                }
                let asked = json!({ "image": image, "path": path, "classes": classes });
                let answered = match held.as_mut() {
                    Some(process) => timeout(LIMIT, process.ask(&asked.to_string())).await,
                    None => return Err("the detector is not there".to_owned()),
                };
                let named = |why: String| format!("the detector {}: {why}", command.join(" "));
                match answered {
                    Ok(Ok(said)) => Ok(said),
                    Ok(Err(why)) => {
                        *held = None;
                        Err(named(why))
                    }
                    Err(_) => {
                        *held = None;
                        Err(named(format!("said nothing in {} s", LIMIT.as_secs())))
                    }
                }
            }
        }
    }
}

fn start(command: &[String]) -> Result<Process, String> {
    let (program, arguments) = command.split_first().ok_or("the detector's command is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start the detector {program}: {error}"))?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(input), Some(output)) => Ok(Process {
            _child: child,
            input,
            output: BufReader::new(output),
        }),
        _ => Err("the detector was given no pipes".to_owned()),
    }
}

impl Process {
    async fn ask(&mut self, line: &str) -> Result<String, String> {
        let broken = |error: std::io::Error| error.to_string();
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(broken)?;
        self.input.flush().await.map_err(broken)?;
        let mut said = String::new();
        let read = (&mut self.output)
            .take(LONGEST)
            .read_line(&mut said)
            .await
            .map_err(broken)?;
        if read == 0 {
            return Err("it ended before it answered".to_owned());
        }
        if !said.ends_with('\n') {
            return Err(format!(
                "an answer of more than {LONGEST} bytes, or one that was cut off"
            ));
        }
        Ok(said)
    }
}
