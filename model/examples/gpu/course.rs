//! Runs the sections one after another. Each section is a process of its own with its own time limit, so that
//! a crash or a sticky CUDA error affects one section only. A section that was completed with the same
//! programs on the same device is not repeated.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::figure::{Figure, Verdict};
use crate::options::Options;
use crate::report::Results;
use crate::sections::{SECTIONS, Section};

/// Interval at which a section's process is polled.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the requested sections that are not yet done and prints the table. Returns exit code 1 if anything
/// failed.
///
/// # Errors
/// Returns an error if the results folder cannot be written.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    std::fs::create_dir_all(&options.out).with_context(|| format!("--out {}", options.out.display()))?;
    let key = key(options)?;
    let mut results = Results::open(&options.out, &key, options.fresh)?;
    for section in SECTIONS.iter().filter(|section| wanted(options, section.name)) {
        if results.is_done(section.name) {
            println!("{}: done before with these programs on this device", section.name);
            continue;
        }
        let left = (options.minutes * 60.0 - began.elapsed().as_secs_f64()).max(0.0);
        let needs = if options.small { 0 } else { section.needs };
        results.begin(section.name)?;
        if left <= needs as f64 {
            results.add(&skipped(section.name))?;
            continue;
        }
        let took = one(section, options, Duration::from_secs_f64(left), &mut results)?;
        println!("{}: {:.1} s", section.name, took.as_secs_f64());
    }
    let figures = results.figures();
    println!("\n{}", results.table());
    results.write_json(began.elapsed().as_secs_f64())?;
    let failed = figures.iter().any(|figure| figure.verdict == Verdict::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn wanted(options: &Options, name: &str) -> bool {
    if options.only.is_empty() {
        return name != "profile" || options.profile;
    }
    options.only.iter().any(|only| only == name) || (name == "profile" && options.profile)
}

fn skipped(section: &str) -> Value {
    verdict(section, Verdict::Skipped, "no time")
}

fn verdict(section: &str, verdict: Verdict, note: &str) -> Value {
    json!({"section": section, "figure": "the whole section", "verdict": verdict, "note": note})
}

/// Runs one section in a process of its own, within the remaining time.
fn one(
    section: &Section,
    options: &Options,
    left: Duration,
    results: &mut Results,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    // The tiny shape measures nothing, so it may run ten times as long, on a machine that is busy otherwise.
    let patience = if options.small { 10 } else { 1 };
    let allowed = Duration::from_secs(patience * section.limit);
    let limit = allowed.min(left);
    let mut log = Log::open(&options.out, section.name)?;
    let mut child = spawn(section.name, options, log.file.try_clone()?)?;
    let lines = read(child.stdout.take().context("a section's output")?);
    let mut told = 0;
    let ended = loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) if serde_json::from_value::<Figure>(line.clone()).is_ok() => {
                results.add(&line)?;
                told += 1;
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if let Some(ended) = child.try_wait()? {
                    break Some(ended);
                }
                std::thread::sleep(LOOK);
            }
        }
        if began.elapsed() > limit {
            break None;
        }
    };
    // The section may have left processes behind, such as a daemon.
    end_group(&child);
    child.wait()?;
    let whole = ended.is_some_and(|ended| ended.success()) && told > 0;
    match ended {
        None if limit < allowed => results.add(&skipped(section.name))?,
        None => {
            let note = format!("did not end within {} s", allowed.as_secs());
            results.add(&verdict(section.name, Verdict::Fail, &note))?;
        }
        Some(ended) if !whole => {
            let note = format!("{ended}: {}", log.last_words());
            results.add(&verdict(section.name, Verdict::Fail, &note))?;
        }
        Some(_) => {}
    }
    results.end(section.name, whole, began.elapsed())?;
    Ok(began.elapsed())
}

/// Starts a section in a process group of its own.
fn spawn(name: &str, options: &Options, log: File) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["section", name])
        .args(options.flags())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0);
    if options.device == "cpu" {
        command.env("DEMASK_NO_CUDA", "1");
    }
    command.spawn().context("a section's process")
}

/// Prints the section's output as it arrives and passes its JSON lines on.
fn read(out: ChildStdout) -> Receiver<Value> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            println!("  {line}");
            std::io::stdout().flush().ok();
            if let Ok(line) = serde_json::from_str(&line) {
                tell.send(line).ok();
            }
        }
    });
    told
}

/// Sends SIGKILL to a section and to every process it started.
fn end_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: the signal goes to the process group that the child leads.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// The standard error of all sections, appended to one file.
struct Log {
    file: File,
    /// The offset at which the present section's output begins.
    start: u64,
}

impl Log {
    fn open(out: &Path, section: &str) -> anyhow::Result<Self> {
        let path = out.join("log.txt");
        let mut options = File::options();
        let mut file = options
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .with_context(|| format!("{}", path.display()))?;
        writeln!(file, "--- {section}")?;
        let start = file.metadata()?.len();
        Ok(Self { file, start })
    }

    fn last_words(&mut self) -> String {
        let mut text = Vec::new();
        if self.file.seek(SeekFrom::Start(self.start)).is_ok() {
            self.file.read_to_end(&mut text).ok();
        }
        let text = String::from_utf8_lossy(&text);
        let words = text.lines().rev().find(|line| !line.trim().is_empty());
        words
            .unwrap_or("it says nothing")
            .trim()
            .chars()
            .take(300)
            .collect()
    }
}

/// Returns the key of the results: a hash of the programs, the device and the shape.
fn key(options: &Options) -> anyhow::Result<String> {
    let mut hash = blake3::Hasher::new();
    let own = std::env::current_exe()?;
    let others = ["demask", "demask-engine"].map(|name| options.programs.join(name));
    for program in others.iter().chain(options.tests.iter()).chain([&own]) {
        let bytes = std::fs::read(program).with_context(|| format!("the program {}", program.display()))?;
        hash.update(blake3::hash(&bytes).as_bytes());
    }
    hash.update(
        json!([options.device, options.small, options.layers, card()])
            .to_string()
            .as_bytes(),
    );
    Ok(hash.finalize().to_hex()[..16].to_owned())
}

/// Returns the models of the GPUs as the driver reports them.
fn card() -> String {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus");
    let model = |card: std::fs::DirEntry| {
        let text = std::fs::read_to_string(card.path().join("information")).unwrap_or_default();
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"));
        model.unwrap_or_default().trim().to_owned()
    };
    let mut models: Vec<String> = cards.into_iter().flatten().flatten().map(model).collect();
    models.sort();
    models.join(", ")
}
