//! Benchmarks that a person makes without Rust: a file, a prompt template, a scorer (`[[benchmark]]`), and what is held out of
//! a source.
//!
//! - `config.rs`: what one of a person's own is, `rows_file.rs`: what a bare file of rows is, `check.rs`: what may be wrong with it; `items.rs`: its rows as items,
//!   `choices.rs`: their choices;
//! - `scoring.rs`: how an answer is scored, `official.rs`: official scorers of single answers;
//! - `held_out.rs`: what is held out of a source; `read_once.rs`: a file's items, kept once they were read.
//!
//! Not here: where paths are looked for (`actors`), who asks an external reward (`actors`).

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

/// The result of shares.
const SHARE: Protocol = Protocol::accuracy("");
/// The result of credits between wrong and right.
const MEAN: Protocol = Protocol::mean_credit("");

/// An own benchmark, its items read when they are first asked for.
pub(super) struct Own {
    config: OwnBenchmark,
    scorer: Arc<OwnScorer>,
    items: ReadOnce,
}

impl Own {
    /// The benchmark, `external` the names of the rewards that are no part of the program.
    ///
    /// # Errors
    /// As [`OwnBenchmark::check`].
    pub(super) fn new(config: OwnBenchmark, external: &[&str]) -> Result<Self, (&'static str, String)> {
        let scorer = Arc::new(config.check(external)?);
        let (own, by) = (config.clone(), Arc::clone(&scorer));
        // A broken row is told before any is asked: the whole file is read.
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
