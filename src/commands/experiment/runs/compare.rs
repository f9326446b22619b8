//! `demask runs compare`: several runs side by side.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use demask_actors::home::Home;
use serde::Serialize;
use serde_json::{Value, json};

use super::series::{self, ValueSeries, Which, is_lower_better, short};
use super::{config, ending, find, flatten, rows, shown};
use crate::args::RunsCompare;
use crate::terminal::print;

/// A run that is compared.
struct Column {
    run: String,
    about: Value,
    series: BTreeMap<String, ValueSeries>,
    configuration: BTreeMap<String, Value>,
    benchmarks: BTreeMap<String, SuiteOutcome>,
}

/// The last result of a suite in a run.
#[derive(Clone, Debug, Serialize)]
struct SuiteOutcome {
    step: Value,
    value: Value,
    low: Value,
    high: Value,
    n: Value,
}

impl Column {
    fn read(home: &Home, named: &str, globs: &[String]) -> anyhow::Result<Self> {
        let run = find(home, named)?;
        let about = rows(
            home,
            &format!(
                "SELECT run, name, profile, status, step, seed, parent, parent_step FROM v_run WHERE run = '{run}'"
            ),
        )?;
        let mut configuration = BTreeMap::new();
        flatten("config", &config(home, &run)?, &mut configuration);
        let evals = rows(
            home,
            &format!("SELECT suite, step, value, low, high, n FROM v_eval WHERE run = '{run}' ORDER BY step"),
        )?;
        let benchmarks = evals.rows.into_iter().filter_map(|row| {
            let [suite, step, value, low, high, n] = <[Value; 6]>::try_from(row).ok()?;
            let result = SuiteOutcome {
                step,
                value,
                low,
                high,
                n,
            };
            // In the order of the steps: the last one stays.
            Some((suite.as_str()?.to_owned(), result))
        });
        Ok(Self {
            about: about.objects().pop().unwrap_or_default(),
            series: series::read(home, &run, globs)?,
            configuration,
            benchmarks: benchmarks.collect(),
            run,
        })
    }

    /// What heads its column.
    fn title(&self) -> String {
        self.about["name"]
            .as_str()
            .unwrap_or_else(|| ending(&self.run))
            .to_owned()
    }
}

/// Prints values, what differs in the configurations, and benchmarks, a column a run.
///
/// # Errors
/// No such run; the same one twice.
pub fn compare(home: &Home, options: &RunsCompare) -> anyhow::Result<()> {
    let columns: Vec<Column> = options
        .runs
        .iter()
        .map(|named| Column::read(home, named, &options.metrics))
        .collect::<Result<_, _>>()?;
    let different: BTreeSet<&str> = columns.iter().map(|column| column.run.as_str()).collect();
    if different.len() < columns.len() {
        bail!("the same run is named twice: {}", options.runs.join(", "));
    }
    let names: BTreeSet<&String> = columns.iter().flat_map(|column| column.series.keys()).collect();
    let suites: BTreeSet<&String> = columns
        .iter()
        .flat_map(|column| column.benchmarks.keys())
        .collect();
    let keys = differing(&columns);
    if options.output.json {
        return print::json(&json!({
            "runs": columns.iter().map(|column| &column.about).collect::<Vec<_>>(),
            "metrics": names.iter().map(|name| json!({
                "metric": name,
                "lower_is_better": is_lower_better(name),
                "runs": columns.iter().map(|column| column.series.get(*name)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "configuration": keys.iter().map(|key| json!({
                "key": key,
                "values": columns.iter().map(|column| column.configuration.get(*key)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "benchmarks": suites.iter().map(|suite| json!({
                "suite": suite,
                "runs": columns.iter().map(|column| column.benchmarks.get(*suite)).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        }));
    }
    if names.is_empty() && !options.metrics.is_empty() {
        print::note("no value of these runs has a name that fits --metric");
    }
    let words = [
        ("last", Which::Last),
        ("best", Which::Best),
        ("last tenth", Which::Tail),
    ];
    let values = names
        .iter()
        .flat_map(|name| words.iter().map(move |(word, which)| (*name, *word, *which)));
    let cell = |column: &Column, name: &String, which| {
        column
            .series
            .get(name)
            .map_or_else(|| "-".to_owned(), |series| short(series.of(which)))
    };
    table(
        &["value", ""],
        &columns,
        values.map(|(name, word, which)| {
            let mut row = vec![
                if word == "last" {
                    name.clone()
                } else {
                    String::new()
                },
                word.to_owned(),
            ];
            row.extend(columns.iter().map(|column| cell(column, name, which)));
            row
        }),
    )?;
    table(
        &["benchmark, 95 %"],
        &columns,
        suites.iter().map(|suite| {
            let mut row = vec![(*suite).clone()];
            row.extend(columns.iter().map(|column| {
                column
                    .benchmarks
                    .get(*suite)
                    .map_or_else(|| "-".to_owned(), interval)
            }));
            row
        }),
    )?;
    table(
        &["configuration"],
        &columns,
        keys.iter().map(|key| {
            let mut row = vec![(*key).clone()];
            row.extend(columns.iter().map(|column| {
                column
                    .configuration
                    .get(*key)
                    .map_or_else(|| "-".to_owned(), shown)
            }));
            row
        }),
    )
}

/// The keys whose values are not the same in all.
fn differing(columns: &[Column]) -> Vec<&String> {
    let keys: BTreeSet<&String> = columns
        .iter()
        .flat_map(|column| column.configuration.keys())
        .collect();
    let first = columns.first();
    let same = |key: &str| {
        let of_first = first.and_then(|column| column.configuration.get(key));
        columns
            .iter()
            .all(|column| column.configuration.get(key) == of_first)
    };
    keys.into_iter().filter(|key| !same(key)).collect()
}

/// A table with a column a run, if it has a row; an empty line behind it.
fn table(head: &[&str], columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let titles: Vec<String> = columns.iter().map(Column::title).collect();
    let head: Vec<&str> = head
        .iter()
        .copied()
        .chain(titles.iter().map(String::as_str))
        .collect();
    print::table(&head, &rows)?;
    println!();
    Ok(())
}

fn interval(result: &SuiteOutcome) -> String {
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |value| format!("{:.1}", 100.0 * value))
    };
    format!(
        "{} [{}, {}] of {} at {}",
        percent(&result.value),
        percent(&result.low),
        percent(&result.high),
        result.n,
        result.step
    )
}
