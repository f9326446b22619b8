//! Items of Fashion-MNIST.

use demask_datasets::example::{Kind, Split};
use demask_datasets::formats::idx::Idx;
use demask_datasets::formats::row::{KeptColumns, Origin};

use super::{find_data, take_items};
use crate::benchmarks::{Item, SuiteError};

/// Where Fashion-MNIST is searched; the first is the name in Debian's package `dataset-fashion-mnist`.
pub(in crate::benchmarks) const PLACES: &[&str] = &["fashion-mnist", "data/fashion-mnist"];
/// The side of a centred picture in pixels.
pub(in crate::benchmarks) const PIXELS: usize = 32;

/// Returns the first `count` items of a kind, of the training or the test pictures.
pub(in crate::benchmarks) fn items(
    benchmark: &str,
    kind: Kind,
    split: Split,
    count: usize,
) -> Result<Vec<Item>, SuiteError> {
    let folder = find_data(benchmark, PLACES)?;
    let origin = Origin {
        source: "fashion".to_owned(),
        licence: "MIT".to_owned(),
        split,
        pixels: PIXELS,
        columns: std::collections::BTreeMap::new(),
        keep: KeptColumns::Nothing,
    };
    take_items(Idx::open(&folder, origin)?, Some(kind), count)
}
