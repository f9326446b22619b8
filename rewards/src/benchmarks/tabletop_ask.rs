//! The benchmark `tabletop-ask`: questions about pictures of the tabletop.

use demask_datasets::example::Kind;

use super::shared;

use super::{Benchmark, Data, Item, Protocol, Response, Scoring, SuiteError};
use crate::verifiers::Verifiers;

/// The benchmark `tabletop-ask`.
#[derive(Clone, Copy, Debug)]
pub struct TabletopAsk;

impl Benchmark for TabletopAsk {
    fn name(&self) -> &'static str {
        "tabletop-ask"
    }

    fn about(&self) -> &'static str {
        "questions about pictures: is there, how many, which colour, where"
    }

    fn data(&self) -> Data {
        Data::Generated
    }

    fn size(&self) -> usize {
        400
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        Ok(shared::tabletop::items(Kind::Question, count))
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), String> {
        shared::check_shown_size(self.name(), (width, height))
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
