//! The benchmark `fashion-draw`: drawing a class by its name, judged by the nearest class mean.

use demask_datasets::example::{Kind, Split};

use super::shared::{self, fashion};
use super::{Benchmark, Data, Item, Protocol, Response, Scoring, SuiteError};
use crate::verifiers::Verifiers;
use crate::verifiers::class_means::ClassMeans;

/// The number of training pictures from which the class means are computed.
const MEANS_OF: usize = 6000;

/// The benchmark `fashion-draw`.
#[derive(Clone, Copy, Debug)]
pub struct FashionDraw;

impl Benchmark for FashionDraw {
    fn name(&self) -> &'static str {
        "fashion-draw"
    }

    fn about(&self) -> &'static str {
        "pictures drawn from a class's name, by the nearest class mean of the training pictures"
    }

    fn data(&self) -> Data {
        Data::Files(fashion::PLACES)
    }

    fn size(&self) -> usize {
        1000
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        fashion::items(self.name(), Kind::TextToImage, Split::Test, count)
    }

    fn verifiers(&self) -> Result<Verifiers, SuiteError> {
        let known = fashion::items(self.name(), Kind::TextToImage, Split::Train, MEANS_OF)?;
        let classes = ClassMeans::of(known.iter().map(|item| &item.example));
        Ok(Verifiers {
            classes,
            ..Verifiers::default()
        })
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), String> {
        shared::check_drawn_size(self.name(), (width, height), fashion::PIXELS)
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
