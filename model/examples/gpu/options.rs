//! Command-line options.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use demask_model::engine::device_choice::Place;

use crate::sections::SECTIONS;

/// What the program is to do.
pub enum Task {
    /// Run all sections in turn, then print the table.
    Run,
    /// Run one section in this process.
    Section(String),
    /// Be a rank of a world that a section started, in the scene with this name.
    Rank(String),
}

/// The flags. Each section's process gets the same flags.
pub struct Options {
    /// The device: `cuda:N` or `cpu`.
    pub device: String,
    /// Use a tiny shape and tiny recordings, to check that everything runs.
    pub small: bool,
    /// The sections to run. All sections if empty.
    pub only: Vec<String>,
    /// Time limit for all sections together, in minutes.
    pub minutes: f64,
    /// Repeat sections that are already done.
    pub fresh: bool,
    /// Include the profile of a step.
    pub profile: bool,
    /// Number of layers of the large shape, for devices with less memory.
    pub layers: Option<usize>,
    /// Folder for results, logs and the files that sections write.
    pub out: PathBuf,
    /// Folder of `demask` and `demask-engine`.
    pub programs: PathBuf,
    /// The built test program of `tests/cuda.rs`.
    pub tests: Option<PathBuf>,
    /// Folder of the recordings.
    pub golden: PathBuf,
    /// Folder of the shipped model.
    pub shipped: PathBuf,
}

impl Options {
    /// Parses `run FLAGS`, `section NAME FLAGS` or `rank SCENE FLAGS`.
    ///
    /// # Errors
    /// Returns an error that says what is wrong and what is expected.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<(Task, Self)> {
        let task = match arguments.next().as_deref() {
            Some("run") => Task::Run,
            Some("section") => Task::Section(known(&arguments.next().context("section: expected a name")?)?),
            Some("rank") => Task::Rank(arguments.next().context("rank: expected a scene")?),
            other => bail!(
                "expected `run`, `section NAME` or `rank SCENE`, found {}",
                other.unwrap_or("nothing")
            ),
        };
        let mut options = Self::default();
        let mut resume = false;
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--small" => options.small = true,
                "--fresh" => options.fresh = true,
                "--resume" => resume = true,
                "--profile" => options.profile = true,
                _ => {
                    let value = arguments.next();
                    let known = options.take(&flag, value)?;
                    ensure!(known, "unknown flag {flag}: --help says which there are");
                }
            }
        }
        ensure!(
            !(resume && options.fresh),
            "--resume and --fresh: expected one of them"
        );
        Ok((task, options))
    }

    /// Applies a flag that takes a value. Returns false if there is no such flag.
    fn take(&mut self, flag: &str, value: Option<String>) -> anyhow::Result<bool> {
        let value = || value.clone().with_context(|| format!("{flag} needs a value"));
        match flag {
            "--device" => self.device = device(&value()?)?,
            "--only" => self.only = value()?.split(',').map(known).collect::<Result<_, _>>()?,
            "--minutes" => self.minutes = minutes(&value()?)?,
            "--layers" => self.layers = Some(layers(&value()?)?),
            "--out" => self.out = value()?.into(),
            "--programs" => self.programs = value()?.into(),
            "--tests" => self.tests = Some(value()?.into()),
            "--golden" => self.golden = value()?.into(),
            "--shipped" => self.shipped = value()?.into(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the options as flags, for the process of a section.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--device".to_owned(), self.device.clone()];
        let mut path = |flag: &str, path: &Path| {
            flags.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
        };
        path("--out", &self.out);
        path("--programs", &self.programs);
        path("--golden", &self.golden);
        path("--shipped", &self.shipped);
        if let Some(tests) = &self.tests {
            path("--tests", tests);
        }
        if let Some(layers) = self.layers {
            flags.extend(["--layers".to_owned(), layers.to_string()]);
        }
        if self.small {
            flags.push("--small".to_owned());
        }
        flags
    }

    /// Opens the device.
    ///
    /// # Errors
    /// Returns an error if the device does not exist.
    pub fn place(&self, dtype: &str) -> anyhow::Result<Place> {
        Ok(Place::choose(&self.device, dtype, self.threads())?)
    }

    /// Returns the number of threads: one for the tiny shape, whose operators are too small for more,
    /// otherwise `None` for all.
    pub fn threads(&self) -> Option<usize> {
        self.small.then_some(1)
    }

    /// Returns whether the requirements for the 8B shape apply: the whole shape, on a GPU.
    pub fn asked(&self) -> bool {
        self.device != "cpu" && !self.small && self.layers.is_none()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: "cuda:0".to_owned(),
            small: false,
            only: Vec::new(),
            minutes: 8.0,
            fresh: false,
            profile: false,
            layers: None,
            out: "gpu-results".into(),
            programs: ".".into(),
            tests: None,
            golden: "golden".into(),
            shipped: "shipped/tabletop".into(),
        }
    }
}

fn known(name: &str) -> anyhow::Result<String> {
    let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
    ensure!(
        names.contains(&name),
        "no section {name}: expected one of {}",
        names.join(", ")
    );
    Ok(name.to_owned())
}

fn device(text: &str) -> anyhow::Result<String> {
    let number = text
        .strip_prefix("cuda:")
        .and_then(|number| number.parse::<usize>().ok());
    ensure!(
        text == "cpu" || number.is_some(),
        "--device {text}: expected cpu or cuda:N"
    );
    Ok(text.to_owned())
}

fn minutes(text: &str) -> anyhow::Result<f64> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..=1e4).contains(minutes));
    minutes.with_context(|| format!("--minutes {text}: expected a number of minutes"))
}

fn layers(text: &str) -> anyhow::Result<usize> {
    let layers = text.parse().ok().filter(|layers| (1..=32).contains(layers));
    layers.with_context(|| format!("--layers {text}: expected 1 to 32"))
}
