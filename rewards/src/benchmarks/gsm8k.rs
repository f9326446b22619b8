//! `gsm8k`: GSM8K's test problems (arXiv 2110.14168), answers compared as numbers.

use demask_datasets::example::Split;
use demask_datasets::formats::jsonl::JsonLines;
use demask_datasets::formats::row::{KeptColumns, Origin};

use super::shared::{find_data, take_items};
use super::{Benchmark, Data, Item, Protocol, Response, Scoring, SuiteError};
use crate::verifiers::Verifiers;

/// Pixels of a picture's side; the problems have none.
const PIXELS: usize = 32;
/// Where the test file is looked for.
const PLACES: &[&str] = &["gsm8k/test.jsonl", "data/gsm8k/test.jsonl"];

/// The benchmark `gsm8k`.
#[derive(Clone, Copy, Debug)]
pub struct Gsm8k;

impl Benchmark for Gsm8k {
    fn name(&self) -> &'static str {
        "gsm8k"
    }

    fn about(&self) -> &'static str {
        "grade-school word problems in words, GSM8K's test file"
    }

    fn data(&self) -> Data {
        Data::Files(PLACES)
    }

    fn size(&self) -> usize {
        1319
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        let path = find_data(self.name(), PLACES)?;
        let origin = Origin {
            source: "gsm8k".to_owned(),
            licence: "MIT".to_owned(),
            split: Split::Test,
            pixels: PIXELS,
            columns: std::collections::BTreeMap::new(),
            keep: KeptColumns::Nothing,
        };
        take_items(JsonLines::open(&path, origin)?, None, count)
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
