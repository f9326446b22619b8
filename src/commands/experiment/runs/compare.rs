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

/// The three numbers of a value, with their labels.
const WORDS: [(&str, Which); 3] = [
    ("last", Which::Last),
    ("best", Which::Best),
    ("last tenth", Which::Tail),
];

/// A compared run.
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
            // The rows are in the order of steps, so the last one stays.
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

    /// Returns the title of the column.
    fn title(&self) -> String {
        self.about["name"]
            .as_str()
            .unwrap_or_else(|| ending(&self.run))
            .to_owned()
    }
}

/// The compared runs with the names of their data.
struct Comparison {
    columns: Vec<Column>,
    /// Names of values.
    values: BTreeSet<String>,
    suites: BTreeSet<String>,
    /// Keys of the configuration whose values differ between the runs.
    keys: Vec<String>,
}

/// Prints values, differing configuration keys and benchmarks, with one column per run.
///
/// # Errors
/// An error if there is no such run, or if a run is named twice.
pub fn compare(home: &Home, options: &RunsCompare) -> anyhow::Result<()> {
    let compared = Comparison::read(home, options)?;
    if options.output.json {
        return print::json(&compared.to_json());
    }
    if compared.values.is_empty() && !options.metrics.is_empty() {
        print::note("these runs have no metric that matches --metric");
    }
    compared.print()
}

impl Comparison {
    fn read(home: &Home, options: &RunsCompare) -> anyhow::Result<Self> {
        let read = |named: &String| Column::read(home, named, &options.metrics);
        let columns: Vec<Column> = options.runs.iter().map(read).collect::<Result<_, _>>()?;
        let different: BTreeSet<&str> = columns.iter().map(|column| column.run.as_str()).collect();
        if different.len() < columns.len() {
            bail!("the same run is given twice: {}", options.runs.join(", "));
        }
        let values = columns.iter().flat_map(|column| column.series.keys().cloned());
        let suites = columns
            .iter()
            .flat_map(|column| column.benchmarks.keys().cloned());
        Ok(Self {
            values: values.collect(),
            suites: suites.collect(),
            keys: differing(&columns),
            columns,
        })
    }

    fn to_json(&self) -> Value {
        let values = self.values.iter().map(|name| {
            let runs = self.each(|column| json!(column.series.get(name)));
            json!({ "metric": name, "lower_is_better": is_lower_better(name), "runs": runs })
        });
        let keys = self.keys.iter().map(|key| {
            let values = self.each(|column| json!(column.configuration.get(key)));
            json!({ "key": key, "values": values })
        });
        let suites = self.suites.iter().map(|suite| {
            let runs = self.each(|column| json!(column.benchmarks.get(suite)));
            json!({ "suite": suite, "runs": runs })
        });
        json!({
            "runs": self.each(|column| column.about.clone()),
            "metrics": values.collect::<Vec<_>>(),
            "configuration": keys.collect::<Vec<_>>(),
            "benchmarks": suites.collect::<Vec<_>>(),
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        let values = self.values.iter().flat_map(|name| {
            WORDS.map(|(word, which)| {
                let title = if which == Which::Last { name.as_str() } else { "" };
                let own = |column: &Column| cell(column.series.get(name), |series| short(series.of(which)));
                [vec![title.to_owned(), word.to_owned()], self.each(own)].concat()
            })
        });
        self.table(&["value", ""], values)?;
        let suites = self.suites.iter().map(|suite| {
            let own = |column: &Column| cell(column.benchmarks.get(suite), interval);
            [vec![suite.clone()], self.each(own)].concat()
        });
        self.table(&["benchmark, 95 %"], suites)?;
        let keys = self.keys.iter().map(|key| {
            let own = |column: &Column| cell(column.configuration.get(key), shown);
            [vec![key.clone()], self.each(own)].concat()
        });
        self.table(&["configuration"], keys)
    }

    fn each<T>(&self, of: impl Fn(&Column) -> T) -> Vec<T> {
        self.columns.iter().map(of).collect()
    }

    /// Prints a table with a column per run and an empty line after it, if it has rows.
    fn table(&self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
        let rows: Vec<Vec<String>> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let titles = self.each(Column::title);
        let titles = titles.iter().map(String::as_str);
        let head: Vec<&str> = head.iter().copied().chain(titles).collect();
        print::table(&head, &rows)?;
        println!();
        Ok(())
    }
}

/// Formats a value, or a dash for none.
fn cell<T>(value: Option<&T>, words: impl Fn(&T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), words)
}

/// Returns the keys whose values differ between the runs.
fn differing(columns: &[Column]) -> Vec<String> {
    let keys: BTreeSet<&String> = columns
        .iter()
        .flat_map(|column| column.configuration.keys())
        .collect();
    let same = |key: &str| {
        let mut values = columns.iter().map(|column| column.configuration.get(key));
        let first = values.next();
        values.all(|value| Some(value) == first)
    };
    keys.into_iter().filter(|key| !same(key)).cloned().collect()
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
