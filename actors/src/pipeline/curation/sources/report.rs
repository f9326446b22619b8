//! What is reported while a source is read, and the rows that it leaves in the store.

use std::collections::BTreeMap;

use demask_datasets::curation::dedup::MOST_OF_A_BAND;
use demask_storage::{CleanCheck, Gate, GateVerdict, Record};

/// The most rejections by one gate of a source that are listed row by row (law L9).
const LISTED: u64 = 10_000;
/// The most reasons by which further rejections are counted.
const REASONS: usize = 1000;

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
    /// All rows so far that were rejected for one reason and are not listed, because many others are.
    Unlisted {
        /// The source.
        source: String,
        /// The gate.
        gate: Gate,
        /// The reason.
        reason: String,
        /// Rows that were rejected for it.
        rows: u64,
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
    /// Rows that were compared with only some of the rows that look like them (law L9), which may hide near duplicates.
    Capped {
        /// The source.
        source: String,
        /// Rows that were not compared with all.
        rows: u64,
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
    /// Returns the row that the report leaves in the store: a rejection with its gate and reason, or the number of many,
    /// a check against a benchmark, a note on the search for near duplicates, or the accepted examples of a source.
    #[must_use]
    pub fn record(self, run: &str) -> Record {
        let verdict = |source: String, subject: String, gate: Gate, reason: String, count: u64| {
            Record::Verdict(GateVerdict {
                subject,
                run: run.to_owned(),
                round: 0,
                gate,
                passed: gate == Gate::Accept,
                reason,
                source,
                count,
            })
        };
        let of_source = |source: &str| format!("source {source}");
        match self {
            Self::Rejected {
                source,
                subject,
                gate,
                reason,
            } => verdict(source, subject, gate, reason, 1),
            Self::Unlisted {
                source,
                gate,
                reason,
                rows,
            } => {
                let subject = format!("{}: {reason}", of_source(&source));
                verdict(source, subject, gate, reason, rows)
            }
            Self::Capped { source, rows } => {
                let subject = of_source(&source);
                verdict(source, subject, Gate::NearDedup, capped(rows), 0)
            }
            Self::Done { source, kept, .. } => {
                let subject = of_source(&source);
                verdict(source, subject, Gate::Accept, String::new(), kept)
            }
            Self::Clean {
                source,
                benchmark,
                rule,
                checked,
                overlapped,
            } => Record::Clean(CleanCheck {
                run: run.to_owned(),
                benchmark,
                source,
                rule,
                checked,
                overlapped,
            }),
        }
    }
}

/// The reports of reading until they are recorded. Their memory does not grow with the number of rejected rows (law
/// L9).
#[derive(Debug, Default)]
pub struct ReportLog {
    reports: Vec<Report>,
    /// Rejections by source and gate.
    rejected: BTreeMap<(String, Gate), u64>,
    /// Rejections that are not listed, by source, gate and reason, and whether their present number was taken.
    unlisted: BTreeMap<(String, Gate, String), (u64, bool)>,
}

impl ReportLog {
    /// Adds a report. A rejection beyond the listed ones of its source and gate is counted by its reason.
    pub fn push(&mut self, report: Report) {
        let Report::Rejected {
            source, gate, reason, ..
        } = &report
        else {
            self.reports.push(report);
            return;
        };
        let rejected = self.rejected.entry((source.clone(), *gate)).or_default();
        *rejected += 1;
        if *rejected <= LISTED {
            self.reports.push(report);
            return;
        }
        let reason = match gate {
            // Each of these names another row.
            Gate::ExactDedup => "equal to a kept row",
            Gate::NearDedup => "nearly equal to a kept row",
            _ => reason.as_str(),
        };
        let mut key = (source.clone(), *gate, reason.to_owned());
        if self.unlisted.len() >= REASONS && !self.unlisted.contains_key(&key) {
            key.2 = "other reasons".to_owned();
        }
        let (rows, is_taken) = self.unlisted.entry(key).or_default();
        (*rows, *is_taken) = (*rows + 1, false);
    }

    /// Returns the reports since the last call.
    pub fn take(&mut self) -> Vec<Report> {
        let mut reports = std::mem::take(&mut self.reports);
        for ((source, gate, reason), (rows, is_taken)) in &mut self.unlisted {
            if !std::mem::replace(is_taken, true) {
                reports.push(Report::Unlisted {
                    source: source.clone(),
                    gate: *gate,
                    reason: reason.clone(),
                    rows: *rows,
                });
            }
        }
        reports
    }
}

/// Says how many rows were compared with only some of the rows that look like them.
#[must_use]
pub fn capped(rows: u64) -> String {
    format!(
        "{rows} kept rows look like more than {MOST_OF_A_BAND} earlier ones each, and were compared with the latest of \
         them alone; near duplicates may be left"
    )
}
