//! Data that several benchmarks share, and the reading of rows into items. No benchmark is in here.

use std::path::PathBuf;

use demask_datasets::data_dir;
use demask_datasets::example::Kind;
use demask_datasets::formats::row::Row;

use super::{Item, SuiteError};

pub(super) mod fashion;
pub(super) mod tabletop;

/// The first of some places that is there.
pub(super) fn find_data(benchmark: &str, places: &[&str]) -> Result<PathBuf, SuiteError> {
    data_dir::first(&format!("the data of suite {benchmark}"), places).map_err(SuiteError::Absent)
}

/// The first `count` examples of rows, of one kind where one is named. A broken row is an error: no figure is bettered by
/// leaving it out.
pub(super) fn take_items(
    rows: impl Iterator<Item = Row>,
    kind: Option<Kind>,
    count: usize,
) -> Result<Vec<Item>, SuiteError> {
    let mut items = Vec::with_capacity(count);
    for row in rows {
        let wanted = row?
            .into_iter()
            .filter(|example| kind.is_none_or(|kind| kind == example.kind));
        items.extend(wanted.map(Item::from));
        if items.len() >= count {
            break;
        }
    }
    items.truncate(count);
    Ok(items)
}

/// Drawings are judged in one size alone.
pub(super) fn check_drawn_size(name: &str, size: (usize, usize), side: usize) -> Result<(), String> {
    match size == (side, side) {
        true => Ok(()),
        false => Err(format!("what {name} draws is judged at {side}x{side} pixels")),
    }
}

/// Pictures that are shown are square.
pub(super) fn check_shown_size(name: &str, (width, height): (usize, usize)) -> Result<(), String> {
    match width == height {
        true => Ok(()),
        false => Err(format!("the pictures of {name} are square")),
    }
}
