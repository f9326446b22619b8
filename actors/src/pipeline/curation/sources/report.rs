//! What is reported while a source is read, and the rows that it leaves in the store.

use demask_datasets::curation::dedup::MOST_OF_A_BAND;
use demask_storage::{CleanCheck, Gate, GateVerdict, Record};

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
    /// Returns the row that the report leaves in the store: a rejection with its gate and reason, a check against a
    /// benchmark, a note on the search for near duplicates, or the accepted examples of a source.
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
            Self::Capped { source, rows } => Some(Record::Verdict(GateVerdict {
                subject: format!("source {source}"),
                run: run.to_owned(),
                round: 0,
                gate: Gate::NearDedup,
                passed: false,
                reason: capped(rows),
                source,
                count: 0,
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

/// Says how many rows were compared with only some of the rows that look like them.
#[must_use]
pub fn capped(rows: u64) -> String {
    format!(
        "{rows} kept rows look like more than {MOST_OF_A_BAND} earlier ones each, and were compared with the latest of \
         them alone; near duplicates may be left"
    )
}
