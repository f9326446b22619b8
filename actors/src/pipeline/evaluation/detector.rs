//! An external detector of objects in drawings, as GenEval uses one: a program that is asked one line at a time, or a
//! file of recorded detections.
//!
//! The program reads lines `{"image": NAME, "path": PNG, "classes": […]}` and answers each with a line
//! `{"detections": {CLASS: [[x1, y1, x2, y2, score], …]}, "colors": {CLASS: [NAME, …]}}`. A file has one such object
//! per line and picture, with `image` in each.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use demask_api::bounded_file;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Time limit of one picture. For the first one it includes loading the detector.
const LIMIT: Duration = Duration::from_secs(600);
/// Longest answer in bytes (law L9).
const LONGEST: u64 = 16 << 20;
/// Largest file of detections in bytes (law L9).
const LARGEST: u64 = 1 << 30;

/// A detector.
#[derive(Debug)]
pub enum Detector {
    /// A program, started at its first picture.
    Program {
        /// The program with its arguments.
        command: Vec<String>,
        /// The process, once it was started.
        process: Box<Mutex<Option<Process>>>,
        /// Folder in which pictures are written for it.
        room: tempfile::TempDir,
    },
    /// Recorded detections by the picture's name.
    File(HashMap<String, Value>),
}

/// A running detector.
#[derive(Debug)]
pub struct Process {
    /// The child process, killed when this is dropped.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Detector {
    /// Makes a detector of a command line, whose words are separated by spaces.
    ///
    /// # Errors
    /// A message if there is no word, or if no folder can be made for pictures.
    pub fn program(command: &str) -> Result<Self, String> {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() {
            return Err("the detector's command is empty".to_owned());
        }
        let room =
            tempfile::tempdir().map_err(|error| format!("cannot create a folder for pictures: {error}"))?;
        Ok(Self::Program {
            command,
            process: Box::new(Mutex::new(None)),
            room,
        })
    }

    /// Reads a file of detections.
    ///
    /// # Errors
    /// A message if the file cannot be read or is too large, or if a line is wrong; it names the line and what was
    /// expected.
    pub fn file(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("{}: {why}", path.display());
        let text = bounded_file::read_text(path, LARGEST).map_err(|error| named(error.to_string()))?;
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

    /// Returns the detections in a picture, as JSON.
    ///
    /// # Errors
    /// A message if the program cannot be started, has ended, or did not answer in time, or if the file lacks the
    /// picture.
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
                    None => return Err("the detector is not running".to_owned()),
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
                        Err(named(format!("it sent no answer within {} s", LIMIT.as_secs())))
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
        _ => Err("the detector has no pipes".to_owned()),
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
            return Err(format!("its answer is incomplete or longer than {LONGEST} bytes"));
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l9_a_device_is_no_file_of_detections() {
        let refused = Detector::file(Path::new("/dev/null")).err().unwrap_or_default();
        assert!(
            refused.contains("/dev/null: expected a regular file"),
            "{refused}"
        );
    }
}
