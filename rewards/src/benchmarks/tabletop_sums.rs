//! The benchmark `tabletop-sums`: the tabletop's word problems.

use demask_datasets::example::Kind;

use super::shared;

use super::{Benchmark, Data, Item, Protocol, Response, Scoring, SuiteError};
use crate::verifiers::Verifiers;

/// The benchmark `tabletop-sums`.
#[derive(Clone, Copy, Debug)]
pub struct TabletopSums;

impl Benchmark for TabletopSums {
    fn name(&self) -> &'static str {
        "tabletop-sums"
    }

    fn about(&self) -> &'static str {
        "word problems in one to three steps"
    }

    fn data(&self) -> Data {
        Data::Generated
    }

    fn size(&self) -> usize {
        400
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        Ok(shared::tabletop::items(Kind::WordProblem, count))
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
