//! Data that several benchmarks share, and the conversion of rows to items. No benchmark is defined here.

use std::path::PathBuf;

use demask_datasets::data_dir;
use demask_datasets::example::Kind;
use demask_datasets::formats::row::Row;

use super::{Item, SuiteError};

pub(super) mod fashion;
pub(super) mod tabletop;

/// Returns the first of several places that exists.
pub(super) fn find_data(benchmark: &str, places: &[&str]) -> Result<PathBuf, SuiteError> {
    data_dir::first(&format!("the data of suite {benchmark}"), places).map_err(SuiteError::Absent)
}

/// Returns the first `count` examples of rows, of one kind if one is given. A broken row is an error, because leaving
/// it out could improve the result.
pub(super) fn take_items(
    rows: impl Iterator<Item = Row>,
    kind: Option<Kind>,
    count: usize,
) -> Result<Vec<Item>, SuiteError> {
    let mut items = Vec::new();
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

/// Checks the size of drawings, which are judged in one size only.
pub(super) fn check_drawn_size(name: &str, size: (usize, usize), side: usize) -> Result<(), String> {
    match size == (side, side) {
        true => Ok(()),
        false => Err(format!(
            "drawings of {name} are judged at {side}x{side} pixels only"
        )),
    }
}

/// Checks that shown pictures are square.
pub(super) fn check_shown_size(name: &str, (width, height): (usize, usize)) -> Result<(), String> {
    match width == height {
        true => Ok(()),
        false => Err(format!(
            "the pictures of {name} are square, so the size must be square"
        )),
    }
}
