//! The held-out share of a source as a benchmark (`test_share`): its rows are asked just as they would have been
//! trained on.

use std::path::PathBuf;
use std::sync::OnceLock;

use demask_datasets::curation::held_out::held_out_rows;
use demask_datasets::example::{Check, Example};
use demask_datasets::formats::Reader;
use demask_datasets::formats::row::Origin;

use super::read_once::ReadOnce;
use super::scoring::f1;
use crate::benchmarks::result::mean_credit;
use crate::benchmarks::{
    Benchmark, Data, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult,
};
use crate::verifiers::{Verifiers, thought};

/// The mean credit, because free answers among the rows may be partly right.
const MEAN: Protocol = Protocol::mean_credit("");

/// The held-out share of a source.
#[derive(Clone)]
pub struct HeldOut {
    /// The source's file or folder.
    pub path: PathBuf,
    /// The reader of the source.
    pub reader: &'static dyn Reader,
    /// How the source's rows are read.
    pub origin: Origin,
    /// The share of rows that is held out.
    pub share: f64,
}

/// The benchmark `SOURCE-test`.
pub(in crate::benchmarks) struct HeldOutRows {
    about: String,
    held_out: HeldOut,
    items: ReadOnce,
    /// The number of rows, once they have been counted.
    count: OnceLock<usize>,
}

impl HeldOutRows {
    pub(in crate::benchmarks) fn new(held_out: HeldOut) -> Self {
        let source = &held_out.origin.source;
        let read = held_out.clone();
        Self {
            about: format!(
                "the held-out rows of source {source}, a share of {}",
                held_out.share
            ),
            items: ReadOnce::new(&format!("{source}-test"), move |count| read.items(count)),
            held_out,
            count: OnceLock::new(),
        }
    }
}

impl HeldOut {
    /// Returns the first items, at most `count`; the source is read only up to the last of them.
    fn items(&self, count: usize) -> Result<Vec<Item>, String> {
        let items: Vec<Item> = self.answered()?.take(count).map(Item::from).collect();
        match items.is_empty() {
            true => Err(format!(
                "no held-out row of {} has an answer to compare with",
                self.path.display()
            )),
            false => Ok(items),
        }
    }

    /// Returns every held-out example that has an answer to compare with.
    fn answered(&self) -> Result<impl Iterator<Item = Example> + use<>, String> {
        let rows = self.reader.open(&self.path, self.origin.clone());
        let rows = held_out_rows(rows.map_err(|error| error.to_string())?, self.share);
        Ok(rows.filter(|example| {
            let can_be_asked = !example.prompt.is_empty();
            can_be_asked && (example.check != Check::None || example.answer.is_some())
        }))
    }
}

impl Benchmark for HeldOutRows {
    fn name(&self) -> &str {
        self.items.name()
    }

    fn about(&self) -> &str {
        &self.about
    }

    fn protocols(&self) -> &'static [Protocol] {
        const { &[MEAN] }
    }

    fn data(&self) -> Data {
        Data::Given
    }

    fn size(&self) -> usize {
        let count = || self.held_out.answered().map_or(0, Iterator::count);
        *self.count.get_or_init(count)
    }

    fn items(&self, _: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        self.items.first(count)
    }

    /// Scores by the example's own check; a free answer by its words in common with the reference.
    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        let free = match (&item.example.check, response) {
            (Check::None, Response::Completion(completion)) => Some(completion),
            _ => None,
        };
        Scoring::Done(match free {
            Some(completion) => f1(thought::split(&completion.text).result, &item.example.reference()).into(),
            None => response.is_right(item, verifiers).into(),
        })
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        mean_credit(self.name(), protocol, judged)
    }
}
