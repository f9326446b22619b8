//! The benchmarks: which items, and what their results mean. No engine here.

use std::collections::BTreeMap;

use std::path::PathBuf;

use demask_datasets::example::{Example, Kind, Split};
use demask_datasets::idx::Idx;
use demask_datasets::jsonl::JsonLines;
use demask_datasets::place;
use demask_datasets::row::{BadRow, Origin, ReadError, Row};
use demask_datasets::tabletop::{Tabletop, render};
use serde::{Deserialize, Serialize};

use crate::judge::Judge;
use crate::statistics::{Mean, mean_of_shares, share};
use crate::verifiers::class_means::ClassMeans;

/// The seed of the tabletop's benchmarks: never changed, so that figures can be compared.
const SEED: u64 = 20_250_521;

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// The name of its value.
    pub metric: &'static str,
    /// Items when no limit is given, at most.
    pub items: usize,
    data: Data,
}

/// Where a benchmark's items come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// Generated.
    Tabletop(Kind),
    /// GSM8K's test file.
    Gsm8k,
    /// Fashion-MNIST's test pictures.
    Fashion(Kind),
}

/// Where GSM8K's test file is looked for.
const GSM8K: [&str; 2] = ["gsm8k/test.jsonl", "data/gsm8k/test.jsonl"];
/// Where Fashion-MNIST is looked for; the first is also the name that Debian's `dataset-fashion-mnist` gives it.
const FASHION: [&str; 2] = ["fashion-mnist", "data/fashion-mnist"];
/// Training pictures that the classes' means are made of.
const MEANS_OF: usize = 6000;
/// Pixels of Fashion-MNIST's pictures once centred.
const FASHION_PIXELS: usize = 32;

/// The suites.
pub const SUITES: [Suite; 6] = [
    Suite {
        name: "tabletop-draw",
        about: "pictures drawn from a prompt, read by the detector: mean of GenEval's six categories",
        metric: "mean_of_categories",
        items: 600,
        data: Data::Tabletop(Kind::TextToImage),
    },
    Suite {
        name: "tabletop-ask",
        about: "questions about pictures: is there, how many, which colour, where",
        metric: "accuracy",
        items: 400,
        data: Data::Tabletop(Kind::Question),
    },
    Suite {
        name: "tabletop-sums",
        about: "word problems in one to three steps",
        metric: "accuracy",
        items: 400,
        data: Data::Tabletop(Kind::WordProblem),
    },
    Suite {
        name: "gsm8k",
        about: "grade-school word problems in words, GSM8K's test file",
        metric: "accuracy",
        items: 1319,
        data: Data::Gsm8k,
    },
    Suite {
        name: "fashion-ask",
        about: "what Fashion-MNIST's test pictures show",
        metric: "accuracy",
        items: 1000,
        data: Data::Fashion(Kind::Question),
    },
    Suite {
        name: "fashion-draw",
        about: "pictures drawn from a class's name, by the nearest class mean of the training pictures",
        metric: "accuracy",
        items: 1000,
        data: Data::Fashion(Kind::TextToImage),
    },
];

/// Why a benchmark cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// Its data is not on this machine.
    #[error("{0}")]
    Absent(String),
    /// Its data cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A row of it is broken.
    #[error("{0}")]
    Row(BadRow),
}

impl From<BadRow> for SuiteError {
    fn from(row: BadRow) -> Self {
        Self::Row(row)
    }
}

fn origin(source: &str, split: Split) -> Origin {
    Origin {
        source: source.to_owned(),
        licence: "MIT".to_owned(),
        split,
        pixels: FASHION_PIXELS,
    }
}

/// A suite's result, as `demask eval --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteResult {
    /// The suite.
    pub suite: String,
    /// The value's name.
    pub metric: String,
    /// 0..1.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Items.
    pub n: usize,
    /// Share right a part; empty where a benchmark has none.
    pub parts: BTreeMap<String, f64>,
    /// What reward networks say of the drawings that `n` counts, on the mean; empty where none was asked or drawn.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Mean>,
}

impl Suite {
    /// Whether it can be run in pictures of that size: what is drawn is judged in its own size, what is shown is square.
    ///
    /// # Errors
    /// The size that it has, in words.
    pub fn takes(&self, width: usize, height: usize) -> Result<(), String> {
        let (kind, side) = match self.data {
            Data::Tabletop(kind) => (kind, render::PIXELS),
            Data::Fashion(kind) => (kind, FASHION_PIXELS),
            Data::Gsm8k => return Ok(()),
        };
        match kind {
            Kind::TextToImage | Kind::ThinkThenDraw if (width, height) != (side, side) => Err(format!(
                "what {} draws is judged at {side}x{side} pixels",
                self.name
            )),
            Kind::Question | Kind::Caption if width != height => {
                Err(format!("the pictures of {} are square", self.name))
            }
            _ => Ok(()),
        }
    }

    /// The suite of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        SUITES.into_iter().find(|suite| suite.name == name)
    }

    /// Whether its data is here.
    #[must_use]
    pub fn available(&self) -> bool {
        match self.data {
            Data::Tabletop(_) => true,
            Data::Gsm8k => place::first(self.name, &GSM8K).is_ok(),
            Data::Fashion(_) => place::first(self.name, &FASHION).is_ok(),
        }
    }

    /// Its first items: test split, the same every time.
    ///
    /// # Errors
    /// Its data is not here, or broken: which file, and what to do.
    pub fn items(&self, limit: Option<usize>) -> Result<Vec<Example>, SuiteError> {
        let count = limit.unwrap_or(self.items).min(self.items);
        match self.data {
            Data::Tabletop(kind) => {
                let world = Tabletop::new(SEED);
                Ok((0..count as u64)
                    .map(|index| world.example(kind, Split::Test, index))
                    .collect())
            }
            Data::Gsm8k => {
                let path = self.place(&GSM8K)?;
                self.taken(JsonLines::open(&path, origin("gsm8k", Split::Test))?, None, count)
            }
            Data::Fashion(kind) => {
                let folder = self.place(&FASHION)?;
                self.taken(
                    Idx::open(&folder, origin("fashion", Split::Test))?,
                    Some(kind),
                    count,
                )
            }
        }
    }

    /// What judges its items.
    ///
    /// # Errors
    /// The pictures that the classes are learnt from are not here, or broken.
    pub fn judge(&self) -> Result<Judge, SuiteError> {
        let Data::Fashion(Kind::TextToImage) = self.data else {
            return Ok(Judge::default());
        };
        let folder = self.place(&FASHION)?;
        let rows = Idx::open(&folder, origin("fashion", Split::Train))?;
        let known = self.taken(rows, Some(Kind::TextToImage), MEANS_OF)?;
        Ok(Judge::with_classes(ClassMeans::of(&known)))
    }

    fn place(&self, places: &[&str]) -> Result<PathBuf, SuiteError> {
        place::first(&format!("the data of suite {}", self.name), places).map_err(SuiteError::Absent)
    }

    fn taken(
        &self,
        rows: impl Iterator<Item = Row>,
        kind: Option<Kind>,
        count: usize,
    ) -> Result<Vec<Example>, SuiteError> {
        let mut items = Vec::with_capacity(count);
        for row in rows {
            let wanted = row?
                .into_iter()
                .filter(|example| kind.is_none_or(|kind| kind == example.kind));
            items.extend(wanted);
            if items.len() >= count {
                break;
            }
        }
        items.truncate(count);
        Ok(items)
    }

    /// The result of judged items. Held-out compositions are the part `composition` and count nowhere else: value, interval
    /// and `n` are of what a model could have been trained for.
    #[must_use]
    pub fn result(&self, judged: &[(Example, bool)]) -> SuiteResult {
        let mut categories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut add = |name: String, right: bool| {
            let entry = categories.entry(name).or_default();
            entry.0 += usize::from(right);
            entry.1 += 1;
        };
        for (example, right) in judged {
            match example.held_out {
                true => add("composition".into(), *right),
                false => add(example.category.clone(), *right),
            }
        }
        let shares: Vec<(usize, usize)> = categories
            .iter()
            .filter(|(name, _)| *name != "composition")
            .map(|(_, &counts)| counts)
            .collect();
        let (right, n) = shares
            .iter()
            .fold((0, 0), |(right, n), share| (right + share.0, n + share.1));
        let interval = if self.metric == "accuracy" {
            share(right, n)
        } else {
            mean_of_shares(&shares)
        };
        SuiteResult {
            suite: self.name.to_owned(),
            metric: self.metric.to_owned(),
            value: interval.value,
            low: interval.low,
            high: interval.high,
            n,
            parts: categories
                .into_iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, (right, n))| (name, right as f64 / n.max(1) as f64))
                .collect(),
            networks: BTreeMap::new(),
        }
    }
}
