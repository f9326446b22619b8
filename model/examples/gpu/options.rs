//! What can be asked for on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use demask_model::engine::device_choice::Place;

use crate::sections::SECTIONS;

/// What to do.
pub enum Task {
    /// The sections in turn, then the table.
    Run,
    /// One section, here.
    Section(String),
}

/// The flags; each section's process is given them again.
pub struct Options {
    /// `cuda:N` or `cpu`.
    pub device: String,
    /// A tiny shape and tiny recordings, to see that all of it runs.
    pub small: bool,
    /// These sections alone, as they were asked for; empty: all.
    pub only: Vec<String>,
    /// For all sections together.
    pub minutes: f64,
    /// What is done already is done again.
    pub fresh: bool,
    /// With the profile of a step.
    pub profile: bool,
    /// Layers of the large shape, where there is less memory.
    pub layers: Option<usize>,
    /// Where results, logs and whatever sections write go.
    pub out: PathBuf,
    /// Where `demask` and `demask-engine` lie.
    pub programs: PathBuf,
    /// The built `tests/cuda.rs`.
    pub tests: Option<PathBuf>,
    /// Folders of recordings.
    pub golden: PathBuf,
    /// The shipped model.
    pub shipped: PathBuf,
}

impl Options {
    /// Reads `run FLAGS` or `section NAME FLAGS`.
    ///
    /// # Errors
    /// What is wrong, with what is expected.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<(Task, Self)> {
        let task = match arguments.next().as_deref() {
            Some("run") => Task::Run,
            Some("section") => Task::Section(known(&arguments.next().context("section: expected a name")?)?),
            other => bail!(
                "expected `run` or `section NAME`, found {}",
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

    /// Takes a flag that has a value; false where there is no such flag.
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

    /// The same as flags, for a section's process.
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

    /// The device, opened.
    ///
    /// # Errors
    /// It is not there.
    pub fn place(&self, dtype: &str) -> anyhow::Result<Place> {
        Ok(Place::choose(&self.device, dtype, self.threads())?)
    }

    /// One for the tiny shape, whose operators are too short for more; else as many as there are.
    pub fn threads(&self) -> Option<usize> {
        self.small.then_some(1)
    }

    /// Whether what was asked of the 8B shape is asked here: all of it, on a GPU.
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
