//! Reading a source: its rows become examples that may be trained on, parsed, without duplicates and without benchmark
//! items.
//!
//! The gates, in order: `parse`, `exact_dedup`, `near_dedup`, `decontaminate` (law L6). Every rejection is reported
//! with its reason, and a source with too many unreadable rows is refused.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::{Dedup, Novelty};
use demask_datasets::curation::held_out::{held_out_rows, is_held_out};
use demask_datasets::curation::likeness_cache::LikenessCache;
use demask_datasets::data_dir;
use demask_datasets::example::{Check, Example, Mode};
use demask_datasets::formats::row::{ReadError, Row, RowPlace};
use demask_datasets::formats::{Encoded, RandomAccess, Reader, Rows};
use demask_rewards::benchmarks::{Data, Suite, SuiteError};
use demask_rewards::verifiers::class_means::ClassMeans;
use demask_storage::{CleanCheck, Gate, GateVerdict, Record};

use super::library::ExampleLibrary;
use super::training_example::location;
use crate::pipeline::run_error::RunError;
use crate::profile::{Profile, Source, SourceKind};

/// Pictures from which the mean pictures of classes are computed.
const MEANS_OF: usize = 6000;
/// Rows after which a source with too large a share of bad rows is given up before its end.
const ENOUGH_ROWS: u64 = 1000;

/// Rows between two progress reports.
const PROGRESS: u64 = 1024;

/// The rules by which an example is checked against benchmarks.
const RULES: &str = "13-gram, whole, picture, likeness";

/// The error of a source that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source cannot be read at all.
    #[error("source {name}: {error}")]
    Unreadable {
        /// The source.
        name: String,
        /// The reason.
        error: ReadError,
    },
    /// The index that finds duplicates cannot be written to disk.
    #[error("source {name}: the index of its texts in {}, which finds exact and near duplicates, failed: {error}", .folder.display())]
    Unindexed {
        /// The source.
        name: String,
        /// The folder of the index's files.
        folder: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// Too many rows of the source cannot be read.
    #[error(
        "source {name}: {bad} of {rows} rows cannot be read, more than the allowed share of {allowed} \
         (limits.bad_row_share); the first: {first}"
    )]
    TooManyBad {
        /// The source.
        name: String,
        /// Number of rows that cannot be read.
        bad: u64,
        /// Number of rows read.
        rows: u64,
        /// Largest allowed share of such rows.
        allowed: f64,
        /// Description of the first bad row.
        first: String,
    },
    /// Too many examples of the source are longer than the run's budgets.
    #[error(
        "source {name}: {long} of {rows} rows do not fit{}, more than the allowed share of {allowed} (limits.bad_row_share); \
         the first: {first}; `budgets` in the profile says what fits",
        if *.bad > 0 { format!(" and {bad} cannot be read") } else { String::new() }
    )]
    TooLong {
        /// The source.
        name: String,
        /// Examples that fit into no stage.
        long: u64,
        /// Rows that cannot be read.
        bad: u64,
        /// Rows and examples that were measured.
        rows: u64,
        /// Largest allowed share of such rows.
        allowed: f64,
        /// Description of the first example that does not fit.
        first: String,
    },
    /// A stage would have nothing to learn from.
    #[error("stage {stage}: {found}")]
    Unusable {
        /// The stage.
        stage: String,
        /// What was wanted, and what was found.
        found: String,
    },
    /// A row has changed since it was read first.
    #[error("source {name}: {error}")]
    Changed {
        /// The source.
        name: String,
        /// The row, and the reason.
        error: String,
    },
    /// Reading was cancelled because the daemon is ending.
    #[error("reading the sources was cancelled: the daemon is ending")]
    GivenUp,
    /// No example of the source is left.
    #[error("source {name}: {path} has no usable example")]
    Empty {
        /// The source.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
}

/// Reading that was given up because the daemon is ending is no failure of the run: the next daemon continues it (L1).
impl From<SourceError> for RunError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::GivenUp => Self::Ending,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// A report of reading.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A row that was rejected.
    Rejected {
        /// The source.
        source: String,
        /// The row, by its file and line.
        subject: String,
        /// The gate.
        gate: Gate,
        /// The reason.
        reason: String,
    },
    /// A check of a source against a benchmark (law L6).
    Clean {
        /// The source.
        source: String,
        /// The benchmark.
        benchmark: String,
        /// The rules of the check, or why it was not made.
        rule: String,
        /// Examples that were checked.
        checked: u64,
        /// Examples that overlapped and were rejected.
        overlapped: u64,
    },
    /// The end of reading and measuring a source.
    Done {
        /// The source.
        source: String,
        /// Rows of the file or folder that were read.
        rows: u64,
        /// Examples that can be trained on.
        kept: u64,
    },
}

impl Report {
    /// Returns the row that the report leaves in the store: a rejection with its gate and reason, a check against a
    /// benchmark, or the accepted examples of a source.
    #[must_use]
    pub fn record(self, run: &str) -> Option<Record> {
        match self {
            Self::Rejected {
                source,
                subject,
                gate,
                reason,
            } => Some(Record::Verdict(GateVerdict {
                subject,
                run: run.to_owned(),
                round: 0,
                gate,
                passed: false,
                reason,
                source,
                count: 1,
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
            Self::Done { source, kept, .. } => Some(Record::Verdict(GateVerdict {
                subject: format!("source {source}"),
                run: run.to_owned(),
                round: 0,
                gate: Gate::Accept,
                passed: true,
                reason: String::new(),
                source,
                count: kept,
            })),
        }
    }
}

/// Registers every benchmark whose data is available. A benchmark that cannot be checked is reported for each source of
/// the profile, with the reason, so that a missing check is a row too (law L6).
pub fn benchmarks(
    profile: &Profile,
    likenesses: &mut LikenessCache,
    report: &mut dyn FnMut(Report),
) -> Forbidden {
    let mut forbidden = Forbidden::default();
    let mut seen = HashSet::new();
    // Pictures are compared only if a source is read from files: generated examples contain no photographs, and the
    // comparison takes time.
    let reads = profile.sources.iter().any(|source| source.kind.reads());
    for suite in profile.suites().checked() {
        // The questions are the same under every protocol.
        let name = suite.benchmark_name().to_owned();
        if !seen.insert(name.clone()) {
            continue;
        }
        let registered = match suite.is_available() {
            true => {
                let shown = reads.then_some(&mut *likenesses);
                register(&suite, (&name, shown), &mut forbidden).map_err(|error| error.to_string())
            }
            false => Err("its data was not found".to_owned()),
        };
        if let Err(error) = registered {
            profile.sources.iter().for_each(|source| {
                report(Report::Clean {
                    source: source.name.clone(),
                    benchmark: name.clone(),
                    rule: format!("not checked: {error}"),
                    checked: 0,
                    overlapped: 0,
                });
            });
        }
    }
    forbidden
}

/// Registers the items of a benchmark: those of a published benchmark by question, choices and picture (the latter
/// where likenesses are wanted), those of another one as they are asked.
fn register(
    suite: &Suite,
    (name, likenesses): (&str, Option<&mut LikenessCache>),
    forbidden: &mut Forbidden,
) -> Result<(), SuiteError> {
    if !matches!(suite.data(), Data::Published(_)) {
        forbidden.register(name, suite.examples(None)?);
        return Ok(());
    }
    let items = suite.items(None)?;
    let likenesses = likenesses.map_or_else(Vec::new, |cache| {
        let shown: Vec<&Encoded> = items.iter().filter_map(|item| item.picture.as_ref()).collect();
        let before = cache.failed();
        let found = cache.of(&shown);
        if cache.failed() > before {
            let failed = cache.failed() - before;
            tracing::warn!(
                "{failed} pictures of {name} cannot be read, so training pictures are not compared with them"
            );
        }
        found
    });
    let texts = items
        .iter()
        .map(|item| (item.bare.as_slice(), item.picture.is_some()));
    forbidden.register_published(name, texts, likenesses);
    Ok(())
}

/// Returns the rows of law L6 for a source: how many examples were checked against each benchmark, and how many
/// overlapped.
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
    let mut gates = Gates {
        source: &source.name,
        dedup: Dedup::new(profile.limits.near_duplicate, room),
        forbidden,
        overlaps: vec![0; forbidden.benchmarks().len()],
        checked: 0,
    };
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

struct Gates<'a> {
    source: &'a str,
    dedup: Dedup,
    forbidden: &'a Forbidden,
    overlaps: Vec<u64>,
    checked: u64,
}

impl Gates<'_> {
    fn pass(&mut self, example: &Example, whole: bool, report: &mut dyn FnMut(Report)) -> io::Result<bool> {
        let copy = if whole { None } else { self.duplicate(example)? };
        let turned_away = copy.or_else(|| self.overlapping(example));
        if let Some((gate, reason)) = turned_away {
            report(Report::Rejected {
                source: self.source.to_owned(),
                subject: location(example),
                gate,
                reason,
            });
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns whether a conversation is a copy of an earlier one, and reports it. The conversation is compared as a
    /// whole: its examples repeat one another's turns and would count as near duplicates of each other.
    fn is_copy(&mut self, examples: &[Example], report: &mut dyn FnMut(Report)) -> io::Result<bool> {
        let copy = examples.last().map(|last| self.duplicate(last)).transpose()?;
        let Some((gate, reason)) = copy.flatten() else {
            return Ok(false);
        };
        for example in examples {
            report(Report::Rejected {
                source: self.source.to_owned(),
                subject: location(example),
                gate,
                reason: reason.clone(),
            });
        }
        Ok(true)
    }

    /// Returns why an example is a duplicate, if it is. A labelled picture is identified by its pixels and its
    /// question; near duplicates are searched in text only.
    fn duplicate(&mut self, example: &Example) -> io::Result<Option<(Gate, String)>> {
        let text = match (&example.picture, &example.check) {
            (Some(_), _) | (_, Check::Class { .. }) => example.id.clone(),
            (None, _) => {
                let earlier = example.turns.iter().rev().skip(1).rev();
                let mut text: String = earlier.map(|turn| format!("{} ", turn.content)).collect();
                text.push_str(&format!("{} {}", example.prompt, example.completion(Mode::Think)));
                text
            }
        };
        Ok(match self.dedup.admit(&text)? {
            Novelty::New => None,
            Novelty::Exact(number) => Some((
                Gate::ExactDedup,
                format!("equal to row {} of the kept rows", number + 1),
            )),
            Novelty::Near(number) => Some((
                Gate::NearDedup,
                format!("nearly equal to row {} of the kept rows", number + 1),
            )),
        })
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
