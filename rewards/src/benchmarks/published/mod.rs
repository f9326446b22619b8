//! The benchmarks that papers report, each in the protocols of published results.
//!
//! A benchmark reads its files, in every form in circulation, into [`PublishedRecord`]s (`files.rs`). It makes an item
//! of a record under a protocol and scores responses with the official scorers (`scorers/`), by item or over the whole
//! set. `text/`, `understanding/` and `generation/` hold one benchmark a file. `embedded.rs` holds a few made-up rows
//! of each, so that the whole path can be run and tested without a download.
//!
//! Files are fetched by `demask pull --benchmark`; the model is asked in `actors`.

mod asked;
pub mod embedded;
mod files;
pub mod generation;
mod spread;
pub mod text;
pub mod understanding;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    Benchmark, BenchmarkSource, Data, Item, ItemRequest, Judged, Protocol, Response, Scoring, SuiteError,
    SuiteResult, Verdict,
};
use crate::scorers;
use crate::verifiers::{Verifiers, thought};

use asked::Asked;
use files::{Files, PublishedRecord};

/// The largest share of broken rows; more suggest the wrong file.
const BROKEN_SHARE: f64 = 0.01;

/// The description of a published benchmark.
pub(super) struct Description {
    /// The name that users type.
    name: &'static str,
    /// What is measured, in one line.
    about: &'static str,
    /// The number of items of a full run.
    size: usize,
    /// The source of its files.
    source: BenchmarkSource,
    /// The protocols, the default first.
    protocols: &'static [Protocol],
}

/// A published benchmark.
trait Published: Send + Sync {
    /// Returns the benchmark's description.
    fn description(&self) -> &'static Description;

    /// Returns the name that users type.
    fn name(&self) -> &'static str {
        self.description().name
    }

    /// Reads every record of the files, in order; shots are marked as not asked.
    ///
    /// # Errors
    /// An error if the files have no known form or cannot be read.
    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError>;

    /// Makes the question of each record that is asked, in order. The shots of a question may depend on all earlier
    /// ones, through the random generator.
    ///
    /// # Errors
    /// An error if the shots are missing.
    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError>;

    /// Returns what the model is asked about an item.
    fn request(&self, _protocol: &Protocol, _item: &Item) -> ItemRequest {
        ItemRequest::Generate { may_think: false }
    }

    /// Scores the text of a completion.
    fn verdict(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Verdict {
        Verdict::default()
    }

    /// Scores the log-likelihoods of the choices.
    fn likeliest(&self, _protocol: &Protocol, _item: &Item, _likelihoods: &[f64]) -> Verdict {
        Verdict::default()
    }

    /// Scores a response, for benchmarks that need more than its text.
    fn score(&self, protocol: &Protocol, item: &Item, response: &Response) -> Scoring {
        Scoring::Done(match response {
            Response::Completion(completion) => {
                self.verdict(protocol, item, thought::split(&completion.text).result)
            }
            Response::Likelihood(likelihoods) => self.likeliest(protocol, item, likelihoods),
        })
    }

    /// Scores a response by the reply of a judge, network or detector; `None` if the reply cannot be parsed.
    fn score_reply(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Option<Verdict> {
        None
    }

    /// Returns the verdict after a judge's replies could not be parsed; `None` if the response then counts as unjudged.
    fn unread_reply(&self, _protocol: &Protocol, _item: &Item) -> Option<Verdict> {
        None
    }

    /// Whether a judge model is optional: the verdicts exist without one.
    fn may_be_judged(&self) -> bool {
        false
    }

    /// Aggregates all verdicts.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        super::accuracy(self.name(), protocol, judged)
    }
}

impl<T: Published> Benchmark for T {
    fn name(&self) -> &str {
        Published::name(self)
    }

    fn about(&self) -> &str {
        self.description().about
    }

    fn protocols(&self) -> &'static [Protocol] {
        self.description().protocols
    }

    fn data(&self) -> Data {
        Data::Published(&self.description().source)
    }

    fn size(&self) -> usize {
        self.description().size
    }

    fn items(&self, protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        items(self, protocol, count)
    }

    fn request(&self, protocol: &Protocol, item: &Item) -> ItemRequest {
        Published::request(self, protocol, item)
    }

    fn score(&self, protocol: &Protocol, item: &Item, response: &Response, _: &Verifiers) -> Scoring {
        Published::score(self, protocol, item, response)
    }

    fn score_reply(&self, protocol: &Protocol, item: &Item, reply: &str) -> Option<Verdict> {
        Published::score_reply(self, protocol, item, reply)
    }

    fn unread_reply(&self, protocol: &Protocol, item: &Item) -> Option<Verdict> {
        Published::unread_reply(self, protocol, item)
    }

    fn may_be_judged(&self) -> bool {
        Published::may_be_judged(self)
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        Published::aggregate(self, protocol, judged)
    }
}

/// Reads the records of the files, unless too many are broken.
fn records(of: &dyn Published, protocol: &Protocol) -> Result<Vec<PublishedRecord>, SuiteError> {
    let folder = of.description().source.folder(of.name())?;
    let records = of.read(protocol, &Files::of(of.name(), folder.clone())?)?;
    let absent = |why: String| SuiteError::Absent(format!("benchmark {}: {why}", of.name()));
    let all = records.iter().filter(|record| record.is_asked).count();
    if all == 0 {
        return Err(absent(format!(
            "{} has no file of a known format",
            folder.display()
        )));
    }
    let broken: Vec<String> = records.iter().filter_map(PublishedRecord::complaint).collect();
    if broken.len() as f64 > BROKEN_SHARE * all as f64 {
        let first: Vec<&str> = broken.iter().take(3).map(String::as_str).collect();
        let count = broken.len();
        return Err(absent(format!(
            "{count} of {all} rows are broken: {}",
            first.join("; ")
        )));
    }
    Ok(records)
}

/// Returns the first items in whole groups.
fn items(of: &dyn Published, protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
    let records = records(of, protocol)?;
    let asked = of.asked(protocol, &records)?;
    let rows = records.iter().filter(|record| record.is_asked);
    let items: Vec<Item> = rows
        .zip(asked)
        .map(|(record, asked)| record.item(of, asked))
        .collect();
    Ok(whole_groups(items, count))
}

/// Returns the first `count` items and the rest of the groups that they begin. An item without a group is its own
/// group.
fn whole_groups(items: Vec<Item>, count: usize) -> Vec<Item> {
    let groups: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(at, item)| item.group.clone().unwrap_or_else(|| format!("item {at}")))
        .collect();
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for group in &groups {
        *sizes.entry(group).or_default() += 1;
    }
    let (mut taken, mut held) = (HashSet::new(), 0);
    for group in &groups {
        if held >= count {
            break;
        }
        if taken.insert(group) {
            held += sizes[group.as_str()];
        }
    }
    let all = items.into_iter().zip(&groups);
    all.filter(|(_, group)| taken.contains(group))
        .map(|(item, _)| item)
        .collect()
}

/// Makes a case for an official scorer.
fn case(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

/// Returns an official scorer's verdict; null if it fails.
fn said(scorer: &str, line: &Value) -> Value {
    scorers::score_line(scorer, line).map_or(Value::Null, |(_, verdict)| verdict)
}

/// Returns the number or boolean at a path of a verdict; 0 if there is none.
fn number(verdict: &Value, path: &str) -> f64 {
    match path.split('.').fold(verdict, |at, name| &at[name]) {
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// Cuts a completion before the first stop string, as an evaluation harness does.
fn cut<'a>(reply: &'a str, stops: &[&str]) -> &'a str {
    stops
        .iter()
        .fold(reply, |reply, stop| reply.split(stop).next().unwrap_or(reply))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_datasets::formats::tables::TableRow;

    #[test]
    fn groups_are_taken_whole() {
        let item = |name: &str, group: Option<&str>| {
            let record = PublishedRecord::of(TableRow {
                place: name.to_owned(),
                fields: demask_datasets::formats::Fields::default(),
            });
            let mut item = record.item(&text::arc_challenge::Arc, Ok(Asked::text(name, "x")));
            item.group = group.map(str::to_owned);
            item
        };
        let names =
            |items: Vec<Item>| -> Vec<String> { items.into_iter().map(|item| item.example.prompt).collect() };
        let pairs = || {
            vec![
                item("a1", Some("a")),
                item("b1", Some("b")),
                item("a2", Some("a")),
                item("b2", Some("b")),
            ]
        };
        assert_eq!(names(whole_groups(pairs(), 1)), ["a1", "a2"]);
        assert_eq!(names(whole_groups(pairs(), 3)), ["a1", "b1", "a2", "b2"]);
        let alone = vec![item("a", None), item("b", None), item("c", None)];
        assert_eq!(names(whole_groups(alone, 2)), ["a", "b"]);
    }
}
