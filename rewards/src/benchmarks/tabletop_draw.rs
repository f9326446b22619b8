//! The benchmark `tabletop-draw`: drawings in GenEval's six categories, read by the detector.

use demask_datasets::example::Kind;
use demask_datasets::tabletop::render::PIXELS;

use super::shared;
use super::{
    Benchmark, Data, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, mean_of_categories,
};
use crate::verifiers::Verifiers;

/// The benchmark `tabletop-draw`.
#[derive(Clone, Copy, Debug)]
pub struct TabletopDraw;

impl Benchmark for TabletopDraw {
    fn name(&self) -> &'static str {
        "tabletop-draw"
    }

    fn about(&self) -> &'static str {
        "pictures drawn from a prompt, read by the detector: mean of GenEval's six categories"
    }

    fn data(&self) -> Data {
        Data::Generated
    }

    fn size(&self) -> usize {
        600
    }

    fn items(&self, _protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        Ok(shared::tabletop::items(Kind::TextToImage, count))
    }

    fn protocols(&self) -> &'static [Protocol] {
        const { &[Protocol::of("", "mean_of_categories")] }
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        mean_of_categories(self.name(), protocol, judged)
    }

    fn check_size(&self, width: usize, height: usize) -> Result<(), String> {
        shared::check_drawn_size(self.name(), (width, height), PIXELS)
    }

    fn score(&self, _: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        Scoring::Done(response.is_right(item, verifiers).into())
    }
}
