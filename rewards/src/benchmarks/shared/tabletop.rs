//! Items of the tabletop, which are generated.

use demask_datasets::example::{Kind, Split};
use demask_datasets::tabletop::Tabletop;

use crate::benchmarks::Item;

/// The seed of the tabletop's benchmarks: never changed, so that figures can be compared.
const SEED: u64 = 20_250_521;

/// The first `count` test items of a kind.
pub(in crate::benchmarks) fn items(kind: Kind, count: usize) -> Vec<Item> {
    let tabletop = Tabletop::new(SEED);
    (0..count as u64)
        .map(|index| tabletop.example(kind, Split::Test, index).into())
        .collect()
}
