//! Reading a source: its rows become examples that may be trained on, parsed, without duplicates and without benchmark
//! items.
//!
//! The gates, in order: `parse`, `exact_dedup`, `near_dedup`, `decontaminate` (law L6). Every rejection is reported
//! with its reason, beyond 10,000 of a gate by number, and a source with too many unreadable rows is refused.
//!
//! - `gates.rs`: the gates after `parse`; `forbidden.rs`: the items of benchmarks;
//! - `report.rs`: what is reported; `error.rs`: why a source cannot be used.

mod error;
mod forbidden;
mod gates;
mod report;

use std::path::Path;

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::Dedup;
use demask_datasets::curation::held_out::{held_out_rows, is_held_out};
use demask_datasets::data_dir;
use demask_datasets::example::{Check, Example};
use demask_datasets::formats::row::{ReadError, Row, RowPlace};
use demask_datasets::formats::{RandomAccess, Reader, Rows};
use demask_rewards::verifiers::class_means::ClassMeans;
use demask_storage::Gate;

use super::library::ExampleLibrary;
use crate::profile::{Profile, Source, SourceKind};

pub use error::SourceError;
pub use forbidden::{benchmarks, checked};
use gates::Gates;
pub use report::{Report, ReportLog, capped};

/// Pictures from which the mean pictures of classes are computed.
const MEANS_OF: usize = 6000;
/// Rows after which a source with too large a share of bad rows is given up before its end.
const ENOUGH_ROWS: u64 = 1000;

/// Rows between two progress reports.
const PROGRESS: u64 = 1024;

/// The rows of a source during the checks, with the place of each row where it can be read again.
enum SourceReading {
    Again(Box<dyn RandomAccess>),
    Once(Rows),
}

impl SourceReading {
    fn next(&mut self) -> Option<(Option<RowPlace>, Row)> {
        match self {
            Self::Again(rows) => rows.next_row().map(|(place, row)| (Some(place), row)),
            Self::Once(rows) => rows.next().map(|row| (None, row)),
        }
    }
}

/// Reads a source that is a file or a folder. Packed rows are unpacked into the folder `room`. `told` receives the
/// number of rows read and returns whether to go on.
///
/// # Errors
/// [`SourceError`]. Earlier reports stay valid.
pub fn read(
    source: &Source,
    profile: &Profile,
    room: &Path,
    forbidden: &Forbidden,
    report: &mut dyn FnMut(Report),
    told: &mut dyn FnMut(u64) -> bool,
) -> Result<ExampleLibrary, SourceError> {
    let path = data_dir::find(source.path.as_deref().unwrap_or(Path::new("")));
    let unreadable = |error| SourceError::Unreadable {
        name: source.name.clone(),
        error,
    };
    let unindexed = |error| SourceError::Unindexed {
        name: source.name.clone(),
        folder: room.to_owned(),
        error,
    };
    let mut rows = passing(source, profile, &path, room).map_err(unreadable)?;
    let dedup = Dedup::new(profile.limits.near_duplicate, room);
    let mut gates = Gates::new(&source.name, dedup, forbidden);
    let mut kept = ExampleLibrary::new(profile.limits.source_memory << 20);
    let mut count = 0;
    while let Some((place, row)) = rows.next() {
        if count % PROGRESS == 0 && !told(count) {
            return Err(SourceError::GivenUp);
        }
        count += 1;
        match row {
            Ok(examples) if is_held_out(source.test_share, &examples) => {}
            Ok(examples) => {
                // The examples of a conversation repeat one another's turns, so the conversation is compared as a
                // whole.
                let whole = examples.last().is_some_and(|last| !last.turns.is_empty());
                if whole && gates.is_copy(&examples, report).map_err(unindexed)? {
                    continue;
                }
                for (which, example) in examples.into_iter().enumerate() {
                    if gates.pass(&example, whole, report).map_err(unindexed)? {
                        kept.push(example, place, which);
                    }
                }
            }
            Err(row) => {
                kept.bad += 1;
                if kept.first_bad.is_empty() {
                    kept.first_bad = row.to_string();
                }
                report(Report::Rejected {
                    source: source.name.clone(),
                    subject: format!("{}:{}", row.file.display(), row.line),
                    gate: Gate::Parse,
                    reason: row.reason,
                });
            }
        }
        // A large source with too many bad rows is refused early. A small one is judged after its last row.
        if too_many(kept.bad, count, profile) && count >= ENOUGH_ROWS {
            break;
        }
        if source.limit.is_some_and(|limit| kept.len() >= limit) {
            break;
        }
    }
    if too_many(kept.bad, count, profile) {
        return Err(SourceError::TooManyBad {
            name: source.name.clone(),
            bad: kept.bad,
            rows: count,
            allowed: profile.limits.bad_row_share,
            first: kept.first_bad,
        });
    }
    gates.finish(report);
    if kept.is_empty() {
        return Err(SourceError::Empty {
            name: source.name.clone(),
            path,
        });
    }
    kept.count = count;
    kept.read_through(match rows {
        SourceReading::Again(rows) => Some(rows),
        SourceReading::Once(_) => None,
    });
    Ok(kept)
}

/// Iterates over the examples that a source holds out of training, if it has a `test_share`. No other row may overlap
/// them (law L6). The rows are read one after another.
///
/// # Errors
/// An error if the source cannot be read at all.
pub fn held_out_items(
    source: &Source,
    profile: &Profile,
) -> Result<impl Iterator<Item = Example> + use<>, SourceError> {
    let rows: Rows = match source.test_share == 0.0 {
        true => Box::new(std::iter::empty()),
        false => {
            let path = data_dir::find(source.path.as_deref().unwrap_or(Path::new("")));
            let unreadable = |error| SourceError::Unreadable {
                name: source.name.clone(),
                error,
            };
            rows(source, profile, &path).map_err(unreadable)?
        }
    };
    Ok(held_out_rows(rows, source.test_share))
}

/// Returns the first examples that were kept of a source, at most `most`.
///
/// # Errors
/// An error if a row cannot be read again.
pub fn first(
    source: &Source,
    library: &mut ExampleLibrary,
    most: usize,
) -> Result<Vec<Example>, SourceError> {
    let changed = |error| SourceError::Changed {
        name: source.name.clone(),
        error,
    };
    let first = (0..library.len().min(most)).map(|number| library.get(number));
    first.collect::<Result<_, _>>().map_err(changed)
}

/// Computes the mean picture of each class in the profile's labelled sources, by which drawings are classified. A
/// source that cannot be read contributes nothing here; its error appears when it is opened.
#[must_use]
pub fn classes(profile: &Profile) -> ClassMeans {
    let labelled = profile
        .sources
        .iter()
        .filter(|source| source.kind.reader().is_some_and(Reader::has_classes));
    let mut known = Vec::new();
    for source in labelled {
        let path = data_dir::find(source.path.as_deref().unwrap_or(Path::new("")));
        let Ok(rows) = rows(source, profile, &path) else {
            continue;
        };
        let drawn = |example: &Example| matches!(example.check, Check::Class { .. });
        known.extend(rows.flatten().flatten().filter(drawn).take(MEANS_OF));
    }
    ClassMeans::of(&known)
}

/// Opens a source's rows, so that they can be read again if the format permits it.
fn passing(source: &Source, profile: &Profile, path: &Path, room: &Path) -> Result<SourceReading, ReadError> {
    let again = match source.kind.reader() {
        Some(reader) => reader.open_again(path, profile.origin(source), room)?,
        None => None,
    };
    Ok(match again {
        Some(rows) => SourceReading::Again(rows),
        None => SourceReading::Once(rows(source, profile, path)?),
    })
}

fn rows(source: &Source, profile: &Profile, path: &Path) -> Result<Rows, ReadError> {
    let origin = profile.origin(source);
    match source.kind {
        SourceKind::Read(reader) => reader.open(path, origin),
        // A generated source has no rows to read.
        SourceKind::Tabletop(_) => Ok(Box::new(std::iter::empty())),
    }
}

/// Returns whether more than the allowed share of the rows is bad.
fn too_many(bad: u64, rows: u64, profile: &Profile) -> bool {
    bad as f64 > profile.limits.bad_row_share * rows as f64
}
