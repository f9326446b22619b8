//! User-defined benchmarks without Rust (`[[benchmark]]`: a file, a prompt template, a scorer), and the held-out share
//! of a source.
//!
//! - `config.rs`: the configuration; `rows_file.rs`: a bare file of rows as a benchmark; `check.rs`: validation;
//! - `items.rs`: rows as items; `choices.rs`: their choices;
//! - `scoring.rs`: how an answer is scored; `official.rs`: official scorers of single answers;
//! - `held_out.rs`: the held-out share of a source; `read_once.rs`: items cached after they were read.
//!
//! Paths are resolved and external rewards are asked in `actors`.

mod check;
mod choices;
mod config;
mod held_out;
mod items;
mod official;
mod read_once;
mod rows_file;
mod scoring;

use std::sync::Arc;

use super::result::mean_credit;
use super::{
    Benchmark, Data, Item, ItemRequest, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult,
    accuracy,
};
use crate::verifiers::Verifiers;
use read_once::ReadOnce;
use scoring::OwnScorer;

pub use config::{OwnBenchmark, OwnKind};
pub use held_out::HeldOut;
pub(super) use held_out::HeldOutRows;

/// The protocol of right-or-wrong scorers.
const SHARE: Protocol = Protocol::accuracy("");
/// The protocol of scorers with partial credit.
const MEAN: Protocol = Protocol::mean_credit("");

/// A user-defined benchmark; its items are read on first use.
pub(super) struct Own {
    config: OwnBenchmark,
    scorer: Arc<OwnScorer>,
    items: ReadOnce,
}

impl Own {
    /// Makes the benchmark; `external` are the names of the profile's external rewards.
    ///
    /// # Errors
    /// Those of [`OwnBenchmark::check`].
    pub(super) fn new(config: OwnBenchmark, external: &[&str]) -> Result<Self, (&'static str, String)> {
        let scorer = Arc::new(config.check(external)?);
        let (own, by) = (config.clone(), Arc::clone(&scorer));
        // The whole file is read, so that a broken row is reported before any item is asked.
        let items = ReadOnce::new(&config.name, move |_| items::read(&own, &by));
        Ok(Self {
            config,
            scorer,
            items,
        })
    }
}

impl Benchmark for Own {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn about(&self) -> &str {
        &self.config.about
    }

    fn protocols(&self) -> &'static [Protocol] {
        match self.scorer.is_graded() {
            true => const { &[MEAN] },
            false => const { &[SHARE] },
        }
    }

    fn data(&self) -> Data {
        Data::Given
    }

    fn size(&self) -> usize {
        self.items.size()
    }

    fn items(&self, _: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        self.items.first(count)
    }

    fn request(&self, _: &Protocol, _: &Item) -> ItemRequest {
        ItemRequest::Generate {
            may_think: self.config.may_think(),
        }
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        self.scorer.score(item, response, verifiers)
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        match self.scorer.is_graded() {
            true => mean_credit(self.name(), protocol, judged),
            false => accuracy(self.name(), protocol, judged),
        }
    }
}
