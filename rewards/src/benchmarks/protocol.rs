//! What a figure depends on beside the model: how items are asked, answered and scored, and where they come from.

use std::path::PathBuf;

use demask_datasets::data_dir;
use demask_datasets::pictures::fit::Fit;

use super::SuiteError;

/// The protocol of benchmarks that are ours, and of ours beside a published one's.
pub(super) const OURS: &str = "demask";

/// A way to run a benchmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// The name after the benchmark's, `NAME:PROTOCOL`; empty for ours.
    pub name: &'static str,
    /// The name of the result's value.
    pub metric: &'static str,
    /// How a picture becomes one of the model's size.
    pub fit: Fit,
    /// Whether a picture goes through a JPEG file first, as one does that a harness writes before it is shown.
    pub through_jpeg: bool,
    /// How long an answer is and how it is filled in; none: as the checkpoint's own settings say.
    pub decoding: Option<Decoding>,
    /// Figures that were published of this protocol.
    pub published: &'static [Figure],
}

/// How an answer is filled in, at temperature 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// Tokens of the answer.
    pub tokens: usize,
    /// Forward passes.
    pub steps: usize,
    /// Tokens of a block.
    pub block: usize,
}

/// A published figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The model.
    pub model: &'static str,
    /// The figure, as it was printed.
    pub value: f64,
    /// Where.
    pub cited: &'static str,
}

impl Protocol {
    /// A protocol of this name whose value is called so.
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

    /// A protocol whose value is the share of right answers.
    #[must_use]
    pub const fn accuracy(name: &'static str) -> Self {
        Self::of(name, "accuracy")
    }

    /// A protocol whose value is the mean credit, where an answer may be partly right.
    #[must_use]
    pub const fn mean_credit(name: &'static str) -> Self {
        Self::of(name, "mean_credit")
    }

    /// The same with answers of so many tokens, in so many steps, by blocks of so many.
    #[must_use]
    pub const fn decoded(self, tokens: usize, steps: usize, block: usize) -> Self {
        Self {
            decoding: Some(Decoding { tokens, steps, block }),
            ..self
        }
    }

    /// The same with pictures that went through a JPEG file.
    #[must_use]
    pub const fn through_jpeg(self) -> Self {
        Self {
            through_jpeg: true,
            ..self
        }
    }

    /// The same with figures that were published of it.
    #[must_use]
    pub const fn published(self, published: &'static [Figure]) -> Self {
        Self { published, ..self }
    }

    /// The name that is printed beside each figure.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self.name.is_empty() {
            true => OURS,
            false => self.name,
        }
    }
}

/// Where a published benchmark's files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchmarkSource {
    /// The licence.
    pub licence: &'static str,
    /// Its size in megabytes, roughly.
    pub megabytes: usize,
    /// Whether its terms must be accepted on the hub first.
    pub is_gated: bool,
    /// The data set of the hub that `demask pull --benchmark` fetches; none: its authors' own place alone, in `from`.
    pub hub: Option<&'static str>,
    /// The files of it that are needed, as patterns; empty: all.
    pub files: &'static [&'static str],
    /// Where else it is, for people.
    pub from: &'static str,
    /// Folders that it is looked for in, beside the hub's copy.
    pub places: &'static [&'static str],
}

impl BenchmarkSource {
    /// The folder with the benchmark's files.
    ///
    /// # Errors
    /// None is there: where was looked, and what to do.
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
                Some(_) => format!("; `demask pull --benchmark {benchmark}` fetches it"),
                None => format!("; it is from {}", self.from),
            };
            SuiteError::Absent(why + &pull)
        })
    }
}
