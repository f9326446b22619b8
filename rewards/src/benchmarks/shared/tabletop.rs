//! Generated items of the tabletop, cached in the process because every run checks against all of them (law L6).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use demask_datasets::example::{Kind, Split};
use demask_datasets::tabletop::Tabletop;

use crate::benchmarks::Item;

/// The seed of the tabletop's benchmarks; it never changes, so that results stay comparable.
const SEED: u64 = 20_250_521;
/// The first items of each requested kind; about 3 MB for all kinds.
static GENERATED: Mutex<BTreeMap<Kind, Vec<Item>>> = Mutex::new(BTreeMap::new());

/// Returns the first `count` test items of a kind.
pub(in crate::benchmarks) fn items(kind: Kind, count: usize) -> Vec<Item> {
    let mut generated = GENERATED.lock().unwrap_or_else(PoisonError::into_inner);
    let items = generated.entry(kind).or_default();
    if items.len() < count {
        let tabletop = Tabletop::new(SEED);
        let more = items.len() as u64..count as u64;
        items.extend(more.map(|index| Item::from(tabletop.example(kind, Split::Test, index))));
    }
    items[..count].to_vec()
}
