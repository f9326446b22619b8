//! What is held out of a source as a benchmark (`test_share`): its rows are asked as they would have been trained on.

use std::path::PathBuf;
use std::sync::OnceLock;

use demask_datasets::curation::held_out::is_held_out;
use demask_datasets::example::{Check, Split};
use demask_datasets::formats::Reader;
use demask_datasets::formats::row::Origin;

use super::scoring::f1;
use crate::benchmarks::result::{accuracy, mean_credit};
use crate::benchmarks::{
    Benchmark, Data, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult,
};
use crate::verifiers::{Verifiers, thought};

/// The metric where an answer may be partly right.
const MEAN: Protocol = Protocol::of("", "mean_credit");

/// What is held out of a source.
#[derive(Clone)]
pub struct HeldOut {
    /// The source's file or folder.
    pub path: PathBuf,
    /// Its reader.
    pub reader: &'static dyn Reader,
    /// How its rows are read.
    pub origin: Origin,
    /// The share that is held out.
    pub share: f64,
}

/// The benchmark `SOURCE-test`.
pub(in crate::benchmarks) struct HeldOutRows {
    name: String,
    about: String,
    held_out: HeldOut,
    items: OnceLock<Result<Vec<Item>, String>>,
}

impl HeldOutRows {
    pub(in crate::benchmarks) fn new(held_out: HeldOut) -> Self {
        let source = &held_out.origin.source;
        Self {
            name: format!("{source}-test"),
            about: format!(
                "what is held out of source {source}, a share of {}",
                held_out.share
            ),
            held_out,
            items: OnceLock::new(),
        }
    }

    fn all(&self) -> Result<&Vec<Item>, SuiteError> {
        let read = self.items.get_or_init(|| read(&self.held_out));
        let named = |why: &String| SuiteError::Absent(format!("benchmark {}: {why}", self.name));
        read.as_ref().map_err(named)
    }
}

/// Every held-out example that an answer can be held against. A row that cannot be read is told by the source itself.
fn read(held_out: &HeldOut) -> Result<Vec<Item>, String> {
    let HeldOut { path, reader, .. } = held_out;
    let rows = reader
        .open(path, held_out.origin.clone())
        .map_err(|error| error.to_string())?;
    let rows = rows
        .flatten()
        .filter(|examples| is_held_out(held_out.share, examples));
    let answered = rows.flatten().filter(|example| {
        let can_be_asked = !example.prompt.is_empty();
        can_be_asked && (example.check != Check::None || example.answer.is_some())
    });
    let items: Vec<Item> = answered
        .map(|mut example| {
            example.split = Split::Test;
            example.into()
        })
        .collect();
    match items.is_empty() {
        true => Err(format!(
            "nothing that is held out of {} has an answer to be compared with",
            path.display()
        )),
        false => Ok(items),
    }
}

impl Benchmark for HeldOutRows {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> &str {
        &self.about
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

    /// By the example's own check; a free answer by the words that it has in common with the given one.
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
        let free = judged.iter().any(|one| one.item.example.check == Check::None);
        match free {
            true => mean_credit(&self.name, &MEAN, judged),
            false => accuracy(&self.name, protocol, judged),
        }
    }
}
