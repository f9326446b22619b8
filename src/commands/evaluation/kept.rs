//! An evaluation in the store: begun, filled as items are judged, ended. One that was interrupted is gone on with.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_actors::inference::error::WorkError;
use demask_actors::pipeline::evaluation::evaluator::{SuiteRun, SuiteWatcher};
use demask_actors::pipeline::evaluation::item_result::ItemResult;
use demask_rewards::benchmarks::{Item, Judged, Verdict};
use demask_rewards::statistics::mean;
use demask_storage::{Blobs, Eval, EvalItem, Evaluation, Record, RunState, StoreError, Writer, evaluations};
use indicatif::ProgressBar;

use crate::connection::append::append;

/// An evaluation that is being kept.
pub struct Kept {
    writer: Writer,
    blobs: Blobs,
    evaluation: Evaluation,
    /// Items of the evaluation that are there already, by suite and number.
    known: BTreeMap<(String, u64), EvalItem>,
    /// Items of other evaluations of the same weights, asked in the same way.
    cached: BTreeMap<(String, u64), EvalItem>,
    /// Rows of those that were taken over and are not kept yet.
    taken: Vec<EvalItem>,
    /// How many were taken over.
    reused: usize,
}

impl Kept {
    /// Begins an evaluation in the home's store, or goes on with one that began alike and was interrupted, as far as `reuse`
    /// allows.
    ///
    /// # Errors
    /// The store's.
    pub fn begin(home: &Home, evaluation: Evaluation, reuse: bool) -> Result<Self, StoreError> {
        let writer = Writer::open(&home.database())?;
        let mut kept = Self {
            blobs: Blobs::new(home.blobs()),
            evaluation,
            known: BTreeMap::new(),
            cached: BTreeMap::new(),
            taken: Vec::new(),
            reused: 0,
            writer,
        };
        if reuse && let Some(id) = evaluations::interrupted(kept.writer.connection(), &kept.evaluation)? {
            let items = evaluations::items(kept.writer.connection(), &id, 0)?;
            let named = items
                .into_iter()
                .map(|item| ((item.suite.clone(), item.number), item));
            kept.known = named.collect();
            kept.evaluation.id = id;
        } else {
            if reuse {
                for id in evaluations::alike(kept.writer.connection(), &kept.evaluation)? {
                    let items = evaluations::items(kept.writer.connection(), &id, 0)?;
                    let named = items
                        .into_iter()
                        .map(|item| ((item.suite.clone(), item.number), item));
                    kept.cached.extend(named);
                }
            }
            kept.append(vec![Record::Evaluation(kept.evaluation.clone())])?;
        }
        Ok(kept)
    }

    /// The evaluation's id.
    pub fn id(&self) -> &str {
        &self.evaluation.id
    }

    /// How many items are there already.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// How many items other evaluations had computed.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Keeps a suite's result.
    ///
    /// # Errors
    /// The store's.
    pub fn result(&mut self, run: &SuiteRun) -> Result<(), StoreError> {
        self.keep_taken()?;
        let result = run.result.clone();
        self.append(vec![Record::Eval(Eval {
            run: self.evaluation.id.clone(),
            step: 0,
            checkpoint: self.evaluation.checkpoint.clone(),
            suite: result.suite,
            metric: result.metric,
            value: result.value,
            low: result.low,
            high: result.high,
            n: result.n as u64,
            parts: result.parts.into_iter().collect(),
            decision: None,
            gain: None,
        })])
    }

    /// Every item of the evaluation, by suite and number.
    ///
    /// # Errors
    /// The store's.
    pub fn items(&self) -> Result<Vec<EvalItem>, StoreError> {
        evaluations::items(self.writer.connection(), &self.evaluation.id, 0)
    }

    /// Ends the evaluation.
    ///
    /// # Errors
    /// The store's.
    pub fn end(&mut self) -> Result<(), StoreError> {
        self.evaluation.state = RunState::Done;
        self.append(vec![Record::Evaluation(self.evaluation.clone())])
    }

    fn append(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        append(&mut self.writer, &records)
    }

    fn known_item(&self, suite: &str, number: usize, item: &Item) -> Option<ItemResult> {
        let row = self.known.get(&(suite.to_owned(), number as u64))?;
        // The same number of the same suite is another item where the data has changed.
        (row.item == item.example.id).then(|| Self::of_row(row, number, item))
    }

    /// The result of an item that a row keeps.
    pub fn of_row(row: &EvalItem, number: usize, item: &Item) -> ItemResult {
        ItemResult {
            number,
            judged: Judged {
                item: item.clone(),
                verdict: Verdict {
                    credit: row.credit,
                    answer: row.answer.clone(),
                },
            },
            completion: None,
            output: row.output.clone(),
            reply: None,
            forwards: usize::try_from(row.forwards).unwrap_or(0),
            seconds: row.seconds,
        }
    }

    /// Keeps the rows of items that others computed.
    ///
    /// # Errors
    /// The store's.
    pub fn take_over(&mut self, rows: impl IntoIterator<Item = EvalItem>) -> Result<(), StoreError> {
        let id = self.evaluation.id.clone();
        let ours = |row: EvalItem| {
            Record::Item(EvalItem {
                run: id.clone(),
                ..row
            })
        };
        self.append(rows.into_iter().map(ours).collect())
    }

    /// The result of an item that another evaluation of the same weights computed in the same way; its row is kept here too.
    fn cached_item(&mut self, suite: &str, number: usize, item: &Item) -> Option<ItemResult> {
        let row = self.cached.get(&(suite.to_owned(), number as u64))?;
        if row.item != item.example.id {
            return None;
        }
        self.taken.push(row.clone());
        self.reused += 1;
        Some(Self::of_row(row, number, item))
    }

    fn keep_taken(&mut self) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() {
            Ok(())
        } else {
            self.take_over(taken)
        }
    }
}

/// Follows one suite: a bar on standard error, items into the store.
pub struct Follower<'a> {
    /// The suite's name.
    pub suite: String,
    /// The bar.
    pub bar: ProgressBar,
    /// Where items are kept; none where nothing is.
    pub kept: Option<&'a mut Kept>,
    /// The credits of the items so far.
    pub credits: Vec<f64>,
}

impl Follower<'_> {
    /// Says the mean credit so far and its interval beside the bar; the suite's own figure may be another.
    fn say_so_far(&mut self, items: &[ItemResult]) {
        let counted = items.iter().filter(|item| item.is_counted());
        self.credits
            .extend(counted.map(|item| item.judged.verdict.credit));
        if let Some(mean) = mean(&self.credits) {
            let half = mean.high.map_or(0.0, |high| high - mean.value);
            self.bar.set_message(format!(
                "{} {:.1} ± {:.1} %",
                self.suite,
                100.0 * mean.value,
                100.0 * half
            ));
        }
    }
}

impl SuiteWatcher for Follower<'_> {
    fn known(&mut self, number: usize, item: &Item) -> Option<ItemResult> {
        let kept = self.kept.as_mut()?;
        let known = kept.known_item(&self.suite, number, item);
        known.or_else(|| kept.cached_item(&self.suite, number, item))
    }

    fn judged(&mut self, items: &[ItemResult]) -> Result<(), WorkError> {
        self.say_so_far(items);
        let Some(kept) = self.kept.as_mut() else {
            return Ok(());
        };
        let row = |item: &ItemResult| {
            let place = (kept.evaluation.id.as_str(), 0, self.suite.as_str());
            item.row(place, &kept.blobs).map(Record::Item)
        };
        let rows: Result<Vec<Record>, StoreError> = items.iter().map(row).collect();
        let rows = rows?;
        kept.keep_taken()?;
        Ok(kept.append(rows)?)
    }

    fn progress(&mut self, done: usize, all: usize) -> bool {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        true
    }
}
