//! The benchmark `fashion-ask`: naming the content of Fashion-MNIST's test pictures (arXiv 1708.07747).

use demask_datasets::example::{Kind, Split};

use super::shared::{self, fashion};
use super::{Benchmark, Data, Item, Protocol, Response, Scoring, SuiteError};
use crate::verifiers::Verifiers;

/// The benchmark `fashion-ask`.
#[derive(Clone, Copy, Debug)]
pub struct FashionAsk;

impl Benchmark for FashionAsk {
    fn name(&self) -> &'static str {
        "fashion-ask"
    }

    fn about(&self) -> &'static str {
        "questions about the classes of Fashion-MNIST's test pictures"
    }

    fn data(&self) -> Data {
        Data::Files(fashion::PLACES)
    }

    fn size(&self) -> usize {
        1000
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        fashion::items(self.name(), Kind::Question, Split::Test, count)
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), String> {
        shared::check_shown_size(self.name(), (width, height))
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
