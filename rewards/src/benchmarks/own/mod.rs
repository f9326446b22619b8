//! Benchmarks that a person makes without Rust: a file, a prompt template, a scorer (`[[benchmark]]`), and what is held out of
//! a source.
//!
//! - `official.rs`: official scorers of single answers;
//! - `held_out.rs`: what is held out of a source; `config.rs`: what one of a person's own is, `check.rs`: what may be wrong with it; `items.rs`: its rows as items; `scoring.rs`: how an answer is scored.
//!
//! Not here: where paths are looked for (`actors`), who asks an external reward (`actors`).

mod check;
mod config;
mod held_out;
mod items;
mod official;
mod scoring;

use std::sync::OnceLock;

use super::result::mean_credit;
use super::{
    Benchmark, Data, Item, ItemRequest, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult,
    accuracy,
};
use crate::verifiers::Verifiers;
use scoring::OwnScorer;

pub use config::{OwnBenchmark, OwnKind};
pub use held_out::HeldOut;
pub(super) use held_out::HeldOutRows;

/// The result of shares.
const SHARE: Protocol = Protocol::accuracy("");
/// The result of credits between wrong and right.
const MEAN: Protocol = Protocol::of("", "mean_credit");

/// An own benchmark, its items read when they are first asked for.
pub(super) struct Own {
    config: OwnBenchmark,
    scorer: OwnScorer,
    items: OnceLock<Result<Vec<Item>, String>>,
}

impl Own {
    /// The benchmark, `external` the names of the rewards that are no part of the program.
    ///
    /// # Errors
    /// As [`OwnBenchmark::check`].
    pub(super) fn new(config: OwnBenchmark, external: &[&str]) -> Result<Self, (&'static str, String)> {
        config.check(external)?;
        let scorer = OwnScorer::of(&config, external)?;
        Ok(Self {
            config,
            scorer,
            items: OnceLock::new(),
        })
    }

    fn all(&self) -> Result<&Vec<Item>, SuiteError> {
        let read = self.items.get_or_init(|| items::read(&self.config));
        let named = |why: &String| SuiteError::Absent(format!("benchmark {}: {why}", self.config.name));
        read.as_ref().map_err(named)
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
        self.all().map_or(0, Vec::len)
    }

    fn items(&self, _: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        Ok(self.all()?.iter().take(count).cloned().collect())
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
