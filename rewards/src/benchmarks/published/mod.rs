//! The benchmarks that papers report, each in the protocols that published figures were made with.
//!
//! A benchmark here reads its files in every form that people have into [`PublishedRecord`]s (`files.rs`), makes an item of a record
//! under a protocol, and scores with the official scorers (`scorers/`), one item or the whole set. `text/`,
//! `understanding/` and `generation/` hold one file each; `embedded.rs` a few made-up rows of each kind, so that the whole way
//! can be tried and tested without any download.
//!
//! Not here: where a file is fetched from (`demask pull --benchmark`), who asks the model (`actors`).

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

/// The share of a benchmark's rows that may be broken; more is another file than it should be.
const BROKEN_SHARE: f64 = 0.01;

/// What a published benchmark is.
pub(super) struct Description {
    /// The name that users type.
    name: &'static str,
    /// What is measured, in a line.
    about: &'static str,
    /// The items of a full run.
    size: usize,
    /// Where its files come from.
    source: BenchmarkSource,
    /// The protocols, the one that is meant first.
    protocols: &'static [Protocol],
}

/// A published benchmark.
trait Published: Send + Sync {
    /// What it is.
    fn description(&self) -> &'static Description;

    /// The name that users type.
    fn name(&self) -> &'static str {
        self.description().name
    }

    /// Every record of the files, in their order; those that are shown before a question and not asked are marked.
    ///
    /// # Errors
    /// The files are of no form that is known, or cannot be read.
    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError>;

    /// What is asked of each record that is asked, in their order: what is shown before one may depend on all before it.
    ///
    /// # Errors
    /// What is shown before the questions is not there.
    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError>;

    /// What the model is asked about an item.
    fn request(&self, _protocol: &Protocol, _item: &Item) -> ItemRequest {
        ItemRequest::Generate { may_think: false }
    }

    /// The verdict on a completion's text.
    fn verdict(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Verdict {
        Verdict::default()
    }

    /// The verdict on the choices' log-likelihoods.
    fn likeliest(&self, _protocol: &Protocol, _item: &Item, _likelihoods: &[f64]) -> Verdict {
        Verdict::default()
    }

    /// How far the scoring of a response gets, where it takes more than its text.
    fn score(&self, protocol: &Protocol, item: &Item, response: &Response) -> Scoring {
        Scoring::Done(match response {
            Response::Completion(completion) => {
                self.verdict(protocol, item, thought::split(&completion.text).result)
            }
            Response::Likelihood(likelihoods) => self.likeliest(protocol, item, likelihoods),
        })
    }

    /// The verdict, from what a judge, a network or a detector said; none where that cannot be read.
    fn score_reply(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Option<Verdict> {
        None
    }

    /// The verdict where a judge was asked and never said what can be read; none: nobody could judge the response.
    fn unread_reply(&self, _protocol: &Protocol, _item: &Item) -> Option<Verdict> {
        None
    }

    /// Whether a judge model may be asked though there are verdicts without one.
    fn may_be_judged(&self) -> bool {
        false
    }

    /// The result of all verdicts.
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

/// What the files have, unless too much of it is broken.
fn records(of: &dyn Published, protocol: &Protocol) -> Result<Vec<PublishedRecord>, SuiteError> {
    let folder = of.description().source.folder(of.name())?;
    let records = of.read(protocol, &Files::of(of.name(), folder.clone())?)?;
    let absent = |why: String| SuiteError::Absent(format!("benchmark {}: {why}", of.name()));
    let all = records.iter().filter(|record| record.is_asked).count();
    if all == 0 {
        return Err(absent(format!(
            "{} has no file of a form that is known",
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

/// The first items, whole groups alone.
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

/// The first `count` items and the rest of the groups that they begin; an item without a group is one of its own.
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

/// A case for an official scorer.
fn case(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

/// What an official scorer says; null where it cannot.
fn said(scorer: &str, line: &Value) -> Value {
    scorers::score_line(scorer, line).map_or(Value::Null, |(_, verdict)| verdict)
}

/// The number or yes-or-no at a path in what a scorer says; 0 where there is none.
fn number(verdict: &Value, path: &str) -> f64 {
    match path.split('.').fold(verdict, |at, name| &at[name]) {
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// The text before the first of each stop string, as a harness cuts a completion.
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
