//! The benchmarks: which items, and what their results mean. No engine here.

use std::collections::BTreeMap;

use demask_datasets::example::{Example, Kind, Split};
use demask_datasets::tabletop::Tabletop;
use serde::{Deserialize, Serialize};

use crate::metrics::{mean_of_shares, share};

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
    /// Items when no limit is given.
    pub items: usize,
    kind: Kind,
}

/// The tabletop's suites.
pub const SUITES: [Suite; 3] = [
    Suite {
        name: "tabletop-draw",
        about: "pictures drawn from a prompt, read by the detector: mean of GenEval's six categories",
        metric: "mean_of_categories",
        items: 600,
        kind: Kind::TextToImage,
    },
    Suite {
        name: "tabletop-ask",
        about: "questions about pictures: is there, how many, which colour, where",
        metric: "accuracy",
        items: 400,
        kind: Kind::Question,
    },
    Suite {
        name: "tabletop-sums",
        about: "word problems in one to three steps",
        metric: "accuracy",
        items: 400,
        kind: Kind::WordProblem,
    },
];

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
    /// Share right a part.
    pub parts: BTreeMap<String, f64>,
}

impl Suite {
    /// The suite of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        SUITES.into_iter().find(|suite| suite.name == name)
    }

    /// Its first items: test split, the same every time.
    #[must_use]
    pub fn items(&self, limit: Option<usize>) -> Vec<Example> {
        let count = limit.unwrap_or(self.items).min(self.items);
        let world = Tabletop::new(SEED);
        (0..count as u64)
            .map(|index| world.example(self.kind, Split::Test, index))
            .collect()
    }

    /// The result of judged items. Held-out compositions are a part of their own; they count in the value too.
    #[must_use]
    pub fn result(&self, judged: &[(Example, bool)]) -> SuiteResult {
        let mut categories: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut add = |name: String, right: bool| {
            let entry = categories.entry(name).or_default();
            entry.0 += usize::from(right);
            entry.1 += 1;
        };
        for (example, right) in judged {
            add(example.category.clone(), *right);
            if example.held_out {
                add("composition".into(), *right);
            }
        }
        let shares: Vec<(usize, usize)> = categories
            .iter()
            .filter(|(name, _)| *name != "composition")
            .map(|(_, &counts)| counts)
            .collect();
        let interval = if self.metric == "accuracy" {
            share(judged.iter().filter(|(_, right)| *right).count(), judged.len())
        } else {
            mean_of_shares(&shares)
        };
        SuiteResult {
            suite: self.name.to_owned(),
            metric: self.metric.to_owned(),
            value: interval.value,
            low: interval.low,
            high: interval.high,
            n: judged.len(),
            parts: categories
                .into_iter()
                .map(|(name, (right, n))| (name, right as f64 / n.max(1) as f64))
                .collect(),
        }
    }
}
