//! An evaluation in the store: it is begun, filled while items are judged, and ended. An interrupted evaluation is
//! continued.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_actors::inference::error::WorkError;
use demask_actors::pipeline::evaluation::evaluator::{SuiteRun, SuiteWatcher};
use demask_actors::pipeline::evaluation::item_result::{ItemResult, lacks_a_reply};
use demask_rewards::benchmarks::{Item, Judged, Verdict};
use demask_rewards::statistics::mean;
use demask_storage::{
    Blobs, Eval, EvalItem, Evaluation, Record, RunState, StoreError, Writer, evaluations, visible,
};
use indicatif::ProgressBar;

use crate::connection::append::append;

/// An evaluation that is being stored.
pub struct Kept {
    writer: Writer,
    blobs: Blobs,
    evaluation: Evaluation,
    /// Items of this evaluation that are stored already, by suite and number.
    known: BTreeMap<(String, u64), EvalItem>,
    /// Items of other evaluations of the same weights with the same settings, by suite and number.
    cached: BTreeMap<(String, u64), EvalItem>,
    /// Rows that were taken over from other evaluations and are not stored yet.
    taken: Vec<EvalItem>,
    /// Number of items that were taken over.
    reused: usize,
}

impl Kept {
    /// Begins an evaluation in the home's store. With `reuse`, an interrupted evaluation with the same settings is
    /// continued instead, or items of finished ones are reused.
    ///
    /// # Errors
    /// Any error of the store.
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
            kept.known = judged(items).collect();
            kept.evaluation.id = id;
        } else {
            if reuse {
                for id in evaluations::alike(kept.writer.connection(), &kept.evaluation)? {
                    let items = evaluations::items(kept.writer.connection(), &id, 0)?;
                    kept.cached.extend(judged(items));
                }
            }
            kept.append(vec![Record::Evaluation(kept.evaluation.clone())])?;
        }
        Ok(kept)
    }

    /// Returns the id of the evaluation.
    pub fn id(&self) -> &str {
        &self.evaluation.id
    }

    /// Returns the number of items that are stored already.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Returns the number of items that were taken over from other evaluations.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Stores the result of a suite.
    ///
    /// # Errors
    /// Any error of the store.
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

    /// Returns every item of the evaluation, by suite and number.
    ///
    /// # Errors
    /// Any error of the store.
    pub fn items(&self) -> Result<Vec<EvalItem>, StoreError> {
        evaluations::items(self.writer.connection(), &self.evaluation.id, 0)
    }

    /// Ends the evaluation.
    ///
    /// # Errors
    /// Any error of the store.
    pub fn end(&mut self) -> Result<(), StoreError> {
        self.evaluation.state = RunState::Done;
        self.append(vec![Record::Evaluation(self.evaluation.clone())])
    }

    fn append(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        append(&mut self.writer, &records)
    }

    fn known_item(&self, suite: &str, number: usize, item: &Item) -> Option<ItemResult> {
        let row = self.known.get(&(suite.to_owned(), number as u64))?;
        // If the data has changed, the same number of the same suite is another item.
        (row.item == item.example.id).then(|| Self::of_row(row, number, item))
    }

    /// Returns the result of an item from its row.
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

    /// Stores rows of items that other evaluations computed.
    ///
    /// # Errors
    /// Any error of the store.
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

    /// Returns the result of an item that another evaluation of the same weights computed with the same settings. Its
    /// row is stored in this evaluation too.
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

/// Returns items by suite and number, without those whose judge did not reply: they are asked again.
fn judged(items: Vec<EvalItem>) -> impl Iterator<Item = ((String, u64), EvalItem)> {
    let items = items.into_iter().filter(|item| !lacks_a_reply(item));
    items.map(|item| ((item.suite.clone(), item.number), item))
}

/// A watcher of one suite that shows a progress bar on standard error and stores the items.
pub struct Follower<'a> {
    /// Name of the suite.
    pub suite: String,
    /// Progress bar.
    pub bar: ProgressBar,
    /// The stored evaluation; `None` if nothing is stored.
    pub kept: Option<&'a mut Kept>,
    /// Credits of the items so far.
    pub credits: Vec<f64>,
}

impl Follower<'_> {
    /// Shows the mean credit so far and its interval beside the bar. The suite's own value may be computed differently.
    fn say_so_far(&mut self, items: &[ItemResult]) {
        let counted = items.iter().filter(|item| item.is_counted());
        self.credits
            .extend(counted.map(|item| item.judged.verdict.credit));
        if let Some(mean) = mean(&self.credits) {
            let half = mean.high.map_or(0.0, |high| high - mean.value);
            self.bar.set_message(format!(
                "{} {:.1} ± {:.1} %",
                visible::line(&self.suite),
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
