//! What a source's file holds, as examples that may be trained on: parsed, without duplicates, without benchmarks.
//!
//! The gates, in order: `parse`, `exact_dedup`, `near_dedup`, `decontaminate` (law L6). Whatever a gate turns away is reported
//! with the reason; a source with too many unreadable rows is refused.

use std::path::{Path, PathBuf};

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::{Dedup, Seen};
use demask_datasets::data_dir;
use demask_datasets::example::{Check, Example, Mode, Split};
use demask_datasets::formats::row::{Origin, ReadError};
use demask_datasets::formats::{Reader, Rows};
use demask_rewards::benchmarks::Suite;
use demask_rewards::verifiers::class_means::ClassMeans;
use demask_storage::{CleanCheck, Gate, Record, Verdict};

use super::training_example::location;
use crate::profile::{Profile, Source, SourceKind};

/// Pictures that the classes' means are made of.
const MEANS_OF: usize = 6000;
/// Rows from which a source with too large a share of bad ones is given up before its end.
const ENOUGH_ROWS: u64 = 1000;

/// The rules that an example is checked by.
const RULES: &str = "13-gram, whole, picture";

/// Why a source could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not readable at all.
    #[error("source {name}: {error}")]
    Unreadable {
        /// The source.
        name: String,
        /// Why.
        error: ReadError,
    },
    /// Too many of its rows are bad.
    #[error(
        "source {name}: {bad} of {rows} rows cannot be read, more than the allowed share of {allowed} \
         (limits.bad_row_share); the first: {first}"
    )]
    TooManyBad {
        /// The source.
        name: String,
        /// Bad rows.
        bad: u64,
        /// Rows read.
        rows: u64,
        /// The allowed share.
        allowed: f64,
        /// The first bad row.
        first: String,
    },
    /// Nothing is left of it.
    #[error("source {name}: {path} has no example that can be trained on")]
    Empty {
        /// The source.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
}

/// What reading found.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A row that was turned away.
    Rejected {
        /// The source.
        source: String,
        /// The row, as a person finds it: the file and line.
        subject: String,
        /// The gate.
        gate: Gate,
        /// Why.
        reason: String,
    },
    /// A source against a benchmark (law L6).
    Clean {
        /// The source.
        source: String,
        /// The benchmark.
        benchmark: String,
        /// By which rules, or why it was not checked.
        rule: String,
        /// Examples checked.
        checked: u64,
        /// Examples that overlapped and were turned away.
        overlapped: u64,
    },
    /// The source is read.
    Done {
        /// The source.
        source: String,
        /// Rows of the file or folder that were read.
        rows: u64,
        /// Examples.
        kept: u64,
    },
}

impl Report {
    /// The row that it leaves in the store: every rejection with its gate and reason, every check against a benchmark.
    #[must_use]
    pub fn record(self, run: &str) -> Option<Record> {
        match self {
            Self::Rejected {
                source,
                subject,
                gate,
                reason,
            } => Some(Record::Verdict(Verdict {
                subject,
                run: run.to_owned(),
                round: 0,
                gate,
                passed: false,
                reason,
                source,
            })),
            Self::Clean {
                source,
                benchmark,
                rule,
                checked,
                overlapped,
            } => Some(Record::Clean(CleanCheck {
                run: run.to_owned(),
                benchmark,
                source,
                rule,
                checked,
                overlapped,
            })),
            Self::Done { .. } => None,
        }
    }
}

/// Every benchmark whose data is here; the others, and why they cannot be checked, go to `report` for each source of the
/// profile, so that a check that was not made is a row too (law L6).
pub fn benchmarks(profile: &Profile, report: &mut dyn FnMut(Report)) -> Forbidden {
    let mut forbidden = Forbidden::default();
    for suite in Suite::all() {
        match suite.examples(None) {
            Ok(items) => forbidden.register(&suite.name(), &items),
            Err(error) => profile.sources.iter().for_each(|source| {
                report(Report::Clean {
                    source: source.name.clone(),
                    benchmark: suite.name(),
                    rule: format!("not checked: {error}"),
                    checked: 0,
                    overlapped: 0,
                });
            }),
        }
    }
    forbidden
}

/// A source's rows of law L6: how many of its examples were checked against each benchmark, and how many overlapped.
pub fn checked(source: &str, forbidden: &Forbidden, count: u64, overlaps: &[u64]) -> Vec<Report> {
    let each = forbidden.benchmarks().iter().zip(overlaps);
    each.map(|(benchmark, &overlapped)| Report::Clean {
        source: source.to_owned(),
        benchmark: benchmark.clone(),
        rule: RULES.to_owned(),
        checked: count,
        overlapped,
    })
    .collect()
}

/// Reads a source that is a file or a folder.
///
/// # Errors
/// [`SourceError`]; what was reported before it stays reported.
pub fn read(
    source: &Source,
    profile: &Profile,
    forbidden: &Forbidden,
    report: &mut dyn FnMut(Report),
) -> Result<Vec<Example>, SourceError> {
    let path = data_dir::find(source.path.as_deref().unwrap_or(Path::new("")));
    let rows = rows(source, profile, &path).map_err(|error| SourceError::Unreadable {
        name: source.name.clone(),
        error,
    })?;
    let mut gates = Gates {
        source: &source.name,
        dedup: Dedup::new(profile.limits.near_duplicate),
        forbidden,
        overlaps: vec![0; forbidden.benchmarks().len()],
        checked: 0,
    };
    let (mut kept, mut bad, mut count, mut first) = (Vec::new(), 0, 0, String::new());
    for row in rows {
        count += 1;
        match row {
            Ok(examples) => kept.extend(examples.into_iter().filter(|example| gates.pass(example, report))),
            Err(row) => {
                bad += 1;
                if first.is_empty() {
                    first = row.to_string();
                }
                report(Report::Rejected {
                    source: source.name.clone(),
                    subject: format!("{}:{}", row.file.display(), row.line),
                    gate: Gate::Parse,
                    reason: row.reason,
                });
            }
        }
        if too_many(bad, count, profile) && count >= ENOUGH_ROWS {
            break;
        }
        if source.limit.is_some_and(|limit| kept.len() >= limit) {
            break;
        }
    }
    if too_many(bad, count, profile) {
        return Err(SourceError::TooManyBad {
            name: source.name.clone(),
            bad,
            rows: count,
            allowed: profile.limits.bad_row_share,
            first,
        });
    }
    gates.finish(report);
    if kept.is_empty() {
        return Err(SourceError::Empty {
            name: source.name.clone(),
            path,
        });
    }
    report(Report::Done {
        source: source.name.clone(),
        rows: count,
        kept: kept.len() as u64,
    });
    Ok(kept)
}

/// What tells the classes of drawn pictures apart: the mean pictures of the profile's labelled sources. A source that cannot
/// be read gives none here, and its own error where it is opened.
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

fn rows(source: &Source, profile: &Profile, path: &Path) -> Result<Rows, ReadError> {
    let origin = Origin {
        source: source.name.clone(),
        licence: source.licence.clone(),
        split: Split::Train,
        pixels: profile.pixels,
    };
    match source.kind {
        SourceKind::Read(reader) => reader.open(path, origin),
        // Nothing is read of what is generated.
        SourceKind::Tabletop(_) => Ok(Box::new(std::iter::empty())),
    }
}

/// Whether more than the allowed share of the rows is bad.
fn too_many(bad: u64, rows: u64, profile: &Profile) -> bool {
    bad as f64 > profile.limits.bad_row_share * rows as f64
}

struct Gates<'a> {
    source: &'a str,
    dedup: Dedup,
    forbidden: &'a Forbidden,
    overlaps: Vec<u64>,
    checked: u64,
}

impl Gates<'_> {
    fn pass(&mut self, example: &Example, report: &mut dyn FnMut(Report)) -> bool {
        let turned_away = self.duplicate(example).or_else(|| self.overlapping(example));
        if let Some((gate, reason)) = turned_away {
            report(Report::Rejected {
                source: self.source.to_owned(),
                subject: location(example),
                gate,
                reason,
            });
            return false;
        }
        true
    }

    /// A labelled picture is its own pixels and what is asked; near duplicates are looked for in text alone.
    fn duplicate(&mut self, example: &Example) -> Option<(Gate, String)> {
        let text = match (&example.picture, &example.check) {
            (Some(_), _) | (_, Check::Class { .. }) => example.id.clone(),
            (None, _) => format!("{} {}", example.prompt, example.completion(Mode::Think)),
        };
        match self.dedup.admit(&text) {
            Seen::New => None,
            Seen::Exact(number) => Some((
                Gate::ExactDedup,
                format!("equal to row {} of those kept", number + 1),
            )),
            Seen::Near(number) => Some((
                Gate::NearDedup,
                format!("nearly row {} of those kept", number + 1),
            )),
        }
    }

    fn overlapping(&mut self, example: &Example) -> Option<(Gate, String)> {
        self.checked += 1;
        let overlap = self.forbidden.overlap(example)?;
        let number = self
            .forbidden
            .benchmarks()
            .iter()
            .position(|name| *name == overlap.benchmark)?;
        self.overlaps[number] += 1;
        Some((
            Gate::Decontaminate,
            format!("overlaps {} ({})", overlap.benchmark, overlap.rule),
        ))
    }

    fn finish(self, report: &mut dyn FnMut(Report)) {
        checked(self.source, self.forbidden, self.checked, &self.overlaps)
            .into_iter()
            .for_each(report);
    }
}
