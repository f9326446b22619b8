//! `demask eval compare`: two evaluations, compared item by item.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_rewards::statistics::{Paired, paired};
use demask_storage::EvalItem;
use serde_json::json;

use super::subject::Subject;
use crate::args::EvalCompare;
use crate::terminal::print;

/// The counted items of a suite that both evaluations have, with the credits of each.
#[derive(Default)]
struct Pairs<'a> {
    first: Vec<f64>,
    second: Vec<f64>,
    /// Items that only one evaluation has right, and whether that is the first.
    split: Vec<(&'a EvalItem, &'a EvalItem, bool)>,
}

/// Prints one row per suite: both values, the paired difference with its interval, and McNemar's test.
///
/// # Errors
/// An error if there is no such evaluation, or if the two have no item in common.
pub fn compare(home: &Home, options: &EvalCompare) -> anyhow::Result<ExitCode> {
    let (a, b) = (Subject::find(home, &options.a)?, Subject::find(home, &options.b)?);
    let suites = pair(&a, &b);
    let compared: Vec<(&str, Paired, &Pairs)> = suites
        .iter()
        .filter_map(|(suite, pairs)| Some((*suite, paired(&pairs.first, &pairs.second)?, pairs)))
        .collect();
    if compared.is_empty() {
        bail!("{} and {} have no items in common", a.name(), b.name());
    }
    if options.output.json {
        let all: Vec<_> = compared
            .iter()
            .map(|(suite, paired, pairs)| {
                json!({ "suite": suite, "a": a.name(), "b": b.name(), "a_value": mean(&pairs.first), "b_value": mean(&pairs.second), "paired": paired })
            })
            .collect();
        print::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = compared.iter().map(|compared| row(compared)).collect();
    print::say(&format!("A = {}, B = {}\n", a.name(), b.name()));
    print::table(
        &[
            "suite",
            "items",
            "A %",
            "B %",
            "B - A",
            "95 %",
            "A alone",
            "B alone",
            "McNemar p",
        ],
        &rows,
    )?;
    show_split(&compared, options.items)
}

/// Returns the counted rows of an evaluation by suite and item. Each sample of an item is a row.
fn by_item(subject: &Subject) -> BTreeMap<(&str, &str), Vec<&EvalItem>> {
    let mut items: BTreeMap<(&str, &str), Vec<&EvalItem>> = BTreeMap::new();
    for row in subject.items.iter().filter(|row| row.counted) {
        let key = (row.suite.as_str(), row.item.as_str());
        items.entry(key).or_default().push(row);
    }
    items
}

/// Pairs the counted items of both evaluations, by suite. If an item was sampled several times, its credit is
/// the mean over its samples, and it is right if all samples are. The samples of one item are not counted as
/// separate items.
fn pair<'a>(a: &'a Subject, b: &'a Subject) -> BTreeMap<&'a str, Pairs<'a>> {
    let of_b = by_item(b);
    let mut suites: BTreeMap<&str, Pairs> = BTreeMap::new();
    for (key, rows) in by_item(a) {
        let Some(others) = of_b.get(&key) else {
            continue;
        };
        let credit = |rows: &[&EvalItem]| mean(&rows.iter().map(|row| row.credit).collect::<Vec<_>>());
        let (first, second) = (credit(&rows), credit(others));
        let pairs = suites.entry(key.0).or_default();
        pairs.first.push(first);
        pairs.second.push(second);
        if (first >= 1.0) != (second >= 1.0) {
            pairs.split.push((rows[0], others[0], first >= 1.0));
        }
    }
    suites
}

fn mean(credits: &[f64]) -> f64 {
    credits.iter().sum::<f64>() / credits.len().max(1) as f64
}

fn row((suite, paired, pairs): &(&str, Paired, &Pairs)) -> Vec<String> {
    let percent = |value: f64| format!("{:.1}", 100.0 * value);
    let difference = paired.difference;
    vec![
        (*suite).to_owned(),
        paired.n.to_string(),
        percent(mean(&pairs.first)),
        percent(mean(&pairs.second)),
        format!("{:+.1}", 100.0 * difference.value),
        format!("{} to {}", percent(difference.low), percent(difference.high)),
        paired.only_first.to_string(),
        paired.only_second.to_string(),
        format!("{:.3}", paired.p),
    ]
}

/// Prints the items that only one evaluation has right, at most `most`.
fn show_split(compared: &[(&str, Paired, &Pairs)], most: usize) -> anyhow::Result<ExitCode> {
    let split = compared.iter().flat_map(|(_, _, pairs)| &pairs.split);
    let rows: Vec<Vec<String>> = split
        .take(most)
        .map(|(a, b, first)| {
            let right = if *first { "A" } else { "B" };
            vec![
                right.to_owned(),
                a.suite.clone(),
                a.number.to_string(),
                print::short(&a.prompt),
                print::short(&a.answer),
                print::short(&b.answer),
                print::short(&a.reference),
            ]
        })
        .collect();
    if !rows.is_empty() {
        println!();
        print::table(
            &["right", "suite", "item", "asked", "A", "B", "right answer"],
            &rows,
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
