//! Protocols: what a result depends on beside the model. A protocol fixes how items are asked, answered and scored; a
//! source says where they come from.

use std::path::PathBuf;

use demask_datasets::data_dir;
use demask_datasets::pictures::fit::Fit;

use super::SuiteError;

/// The label of Demask's own protocols.
pub(super) const OURS: &str = "demask";

/// A way of running a benchmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// The name after the benchmark's, as in `NAME:PROTOCOL`; empty for Demask's own.
    pub name: &'static str,
    /// The name of the result's value.
    pub metric: &'static str,
    /// How a picture is fitted to the model's size.
    pub fit: Fit,
    /// Whether a picture first goes through a JPEG file, as in a harness that writes its pictures to files.
    pub through_jpeg: bool,
    /// The length of an answer and how it is decoded; `None` for the checkpoint's own settings.
    pub decoding: Option<Decoding>,
    /// Published results under this protocol.
    pub published: &'static [Figure],
}

/// How an answer is decoded, at temperature 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// The tokens of the answer.
    pub tokens: usize,
    /// The forward passes.
    pub steps: usize,
    /// The tokens of a block.
    pub block: usize,
}

/// A published result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The model.
    pub model: &'static str,
    /// The value as printed.
    pub value: f64,
    /// The citation.
    pub cited: &'static str,
}

impl Protocol {
    /// Makes a protocol of this name whose value has the name `metric`.
    #[must_use]
    pub const fn of(name: &'static str, metric: &'static str) -> Self {
        Self {
            name,
            metric,
            fit: Fit::Crop,
            through_jpeg: false,
            decoding: None,
            published: &[],
        }
    }

    /// Makes a protocol whose value is the share of right answers.
    #[must_use]
    pub const fn accuracy(name: &'static str) -> Self {
        Self::of(name, "accuracy")
    }

    /// Makes a protocol whose value is the mean credit, for answers that may be partly right.
    #[must_use]
    pub const fn mean_credit(name: &'static str) -> Self {
        Self::of(name, "mean_credit")
    }

    /// Sets the decoding: tokens of an answer, steps, and tokens of a block.
    #[must_use]
    pub const fn decoded(self, tokens: usize, steps: usize, block: usize) -> Self {
        Self {
            decoding: Some(Decoding { tokens, steps, block }),
            ..self
        }
    }

    /// Makes pictures go through a JPEG file.
    #[must_use]
    pub const fn through_jpeg(self) -> Self {
        Self {
            through_jpeg: true,
            ..self
        }
    }

    /// Adds published results.
    #[must_use]
    pub const fn published(self, published: &'static [Figure]) -> Self {
        Self { published, ..self }
    }

    /// Returns the name that is printed beside each result.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self.name.is_empty() {
            true => OURS,
            false => self.name,
        }
    }
}

/// The source of a published benchmark's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchmarkSource {
    /// The licence.
    pub licence: &'static str,
    /// The approximate size in megabytes.
    pub megabytes: usize,
    /// Whether its terms must be accepted on the hub first.
    pub is_gated: bool,
    /// The hub data set that `demask pull --benchmark` fetches; `None` if only its authors distribute it (`from`).
    pub hub: Option<&'static str>,
    /// The patterns of the needed files; empty for all.
    pub files: &'static [&'static str],
    /// Where else the user can get the data.
    pub from: &'static str,
    /// The folders in which it is searched beside the hub's copy.
    pub places: &'static [&'static str],
}

impl BenchmarkSource {
    /// Finds the folder with the benchmark's files.
    ///
    /// # Errors
    /// An error if there is none; it lists the searched places and the remedy.
    pub fn folder(&self, benchmark: &str) -> Result<PathBuf, SuiteError> {
        let hub = self.hub.map(|repo| format!("{}{repo}", data_dir::HUB));
        let pulled = hub
            .iter()
            .map(|named| data_dir::find(named.as_ref()))
            .find(|folder| folder.is_dir());
        if let (Some(folder), false) = (&pulled, data_dir::is_narrowed()) {
            return Ok(folder.clone());
        }
        data_dir::first(&format!("the data of benchmark {benchmark}"), self.places).map_err(|why| {
            let pull = match self.hub {
                Some(_) => format!("; `demask pull --benchmark {benchmark}` downloads it"),
                None => format!("; it is from {}", self.from),
            };
            SuiteError::Absent(why + &pull)
        })
    }
}
