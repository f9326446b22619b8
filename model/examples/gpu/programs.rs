//! Runs the built programs: `demask doctor`, and the tests of `tests/cuda.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::figure::Teller;
use crate::options::Options;

/// Returns a command for one of the programs, with the environment in which it finds the engine and the
/// shipped model.
pub fn program(options: &Options, name: &str) -> Command {
    let mut command = Command::new(options.programs.join(name));
    command
        .env("DEMASK_ENGINE", options.programs.join("demask-engine"))
        .env("DEMASK_SHIPPED", &options.shipped)
        .stdin(Stdio::null());
    command
}

/// A temporary home folder for `demask`, which is deleted on drop.
pub struct Home(PathBuf);

impl Home {
    /// Creates a fresh home in the folder of temporary files.
    ///
    /// # Errors
    /// Returns errors of the file system.
    pub fn fresh(name: &str) -> anyhow::Result<Self> {
        let home = std::env::temp_dir().join(format!("demask-gpu-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).with_context(|| format!("{}", home.display()))?;
        Ok(Self(home))
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Reports each check of `demask doctor`. It fails if the engine reports another device than the requested
/// one.
///
/// # Errors
/// Returns an error if the program does not exist or its report is not valid.
pub fn doctor(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let home = Home::fresh("doctor")?;
    let mut command = program(options, "demask");
    command.arg("--home").arg(home.path()).args(["doctor", "--json"]);
    let out = command.output().context("demask doctor")?;
    let report: Value = serde_json::from_slice(&out.stdout)
        .with_context(|| format!("demask doctor: {}", String::from_utf8_lossy(&out.stderr)))?;
    let checks = report["checks"].as_array().context("demask doctor: no checks")?;
    for check in checks {
        let of = |key: &str| check[key].as_str().unwrap_or_default();
        let note = format!("{} {}", of("found"), of("fix"));
        teller.check(of("name"), of("status") != "fail", note.trim());
    }
    let engine = checks.iter().find(|check| check["name"] == "engine answers");
    let found = engine
        .and_then(|check| check["found"].as_str())
        .unwrap_or("no answer");
    // The doctor uses the best device, which is the first one of several GPUs.
    let device = if options.device == "cpu" {
        "on cpu "
    } else {
        "on cuda:"
    };
    teller.check("the device that was asked for", found.contains(device), found);
    Ok(())
}

/// Runs every test of `tests/cuda.rs` on the device.
///
/// # Errors
/// Returns an error if the program does not exist.
pub fn tests(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let Some(tests) = &options.tests else {
        teller.skipped(
            "tests/cuda.rs",
            "not built: `cargo test --workspace --test cuda --no-run`",
        );
        return Ok(());
    };
    let mut command = Command::new(tests);
    // A device has one queue, so tests side by side would only wait for each other.
    command
        .arg("--test-threads=1")
        .env("DEMASK_TEST_DEVICE", &options.device)
        .stdin(Stdio::null());
    if let Some(threads) = options.threads() {
        command.env("OMP_NUM_THREADS", threads.to_string());
    }
    let out = command.output().with_context(|| format!("{}", tests.display()))?;
    let (said, erred) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    eprintln!("{said}\n{erred}");
    let mut told = 0;
    for line in said.lines().filter_map(|line| line.strip_prefix("test ")) {
        let Some((name, end)) = line.split_once(" ... ") else {
            continue;
        };
        teller.check(name, end.ends_with("ok"), &panic_of(&said, name));
        told += 1;
    }
    let words = said.lines().find(|line| line.starts_with("test result"));
    if !out.status.success() && words.is_none() {
        let last = erred.lines().last().unwrap_or("it says nothing");
        teller.check("all of them", false, &format!("{}: {last}", out.status));
    } else if told == 0 {
        teller.check("all of them", false, "no test ran");
    }
    Ok(())
}

/// Returns the panic message of a failed test.
fn panic_of(said: &str, name: &str) -> String {
    let mut lines = said
        .lines()
        .skip_while(|line| *line != format!("---- {name} stdout ----"));
    let panicked = lines.find(|line| line.contains("panicked at"));
    let words = panicked.and_then(|_| lines.next()).unwrap_or_default();
    words.chars().take(200).collect()
}
