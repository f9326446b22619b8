//! The results of a study: the mean of each setting over the seeds with its 95 % interval (Student's t), and its
//! difference from the first setting over their common seeds.

use std::collections::{BTreeMap, BTreeSet};

use demask_actors::home::Home;
use demask_rewards::statistics::{Mean, mean_by_t};
use serde::Serialize;
use serde_json::json;

use super::plan::StudyPlan;
use super::state::{StudyRunState, StudyRunStates};
use crate::commands::experiment::runs::series::{self, short};
use crate::terminal::print;

/// A value of a setting.
#[derive(Debug, Serialize)]
struct OutcomeRow {
    metric: String,
    setting: String,
    /// Mean over the seeds whose runs are done.
    mean: Mean,
    /// Difference from the first setting over the common seeds; `None` for the first setting.
    difference: Option<Mean>,
}

/// Values by setting, seed and name.
type Values = BTreeMap<String, BTreeMap<u64, BTreeMap<String, f64>>>;

/// Prints the results, and the number of runs in each state.
///
/// # Errors
/// Any error of the store.
pub fn show(home: &Home, plan: &StudyPlan, json: bool) -> anyhow::Result<()> {
    let states = StudyRunStates::read(home, plan)?;
    let values = values(home, plan, &states)?;
    let rows = rows(plan, &values);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &plan.runs {
        *counts.entry(states.of(run).word()).or_default() += 1;
    }
    if json {
        return print::json(
            &json!({ "study": plan.name, "value": plan.value, "runs": counts, "rows": rows }),
        );
    }
    let said: Vec<String> = counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let (name, count) = (&plan.name, plan.runs.len());
    print::say(&format!("study {name}: {count} runs, {}\n", said.join(", ")));
    if rows.is_empty() {
        print::note("no finished run has a value to compare");
        return Ok(());
    }
    let first = format!("less {}", plan.settings.first().map_or("", String::as_str));
    let head = ["value", "setting", "seeds", "mean", "95 %", &first, "95 %"];
    let before = std::iter::once(None).chain(rows.iter().map(Some));
    let cells: Vec<Vec<String>> = rows
        .iter()
        .zip(before)
        .map(|(row, before)| row.cells(before))
        .collect();
    print::table(&head, &cells)
}

impl OutcomeRow {
    /// Returns the row's cells. The name of the value is left out if the row above has the same.
    fn cells(&self, before: Option<&Self>) -> Vec<String> {
        let again = before.is_some_and(|before| before.metric == self.metric);
        let metric = if again { String::new() } else { self.metric.clone() };
        let sign = |mean: &Mean| if mean.value > 0.0 { "+" } else { "" };
        let difference = self.difference.as_ref();
        vec![
            metric,
            self.setting.clone(),
            self.mean.n.to_string(),
            short(self.mean.value),
            interval(&self.mean),
            difference.map_or_else(String::new, |mean| format!("{}{}", sign(mean), short(mean.value))),
            difference.map_or_else(String::new, interval),
        ]
    }
}

fn interval(mean: &Mean) -> String {
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
        _ => "-".to_owned(),
    }
}

/// Reads the values of the finished runs.
fn values(home: &Home, plan: &StudyPlan, states: &StudyRunStates) -> anyhow::Result<Values> {
    let mut values = Values::new();
    for run in plan
        .runs
        .iter()
        .filter(|run| states.of(run) == StudyRunState::Done)
    {
        let Some(id) = states.id(run) else { continue };
        let series = series::read(home, id, &plan.metrics)?;
        let of_run = series
            .into_iter()
            .map(|(name, series)| (name, series.of(plan.value)));
        let of_setting = values.entry(run.setting.clone()).or_default();
        of_setting.insert(run.seed, of_run.collect());
    }
    Ok(values)
}

fn rows(plan: &StudyPlan, values: &Values) -> Vec<OutcomeRow> {
    let runs = values.values().flat_map(BTreeMap::values);
    let metrics: BTreeSet<&String> = runs.flat_map(BTreeMap::keys).collect();
    // Returns a setting's values of one name, by seed.
    let of = |setting: &String, metric: &str| -> BTreeMap<u64, f64> {
        let seeds = values.get(setting).into_iter().flatten();
        seeds
            .filter_map(|(seed, values)| Some((*seed, *values.get(metric)?)))
            .collect()
    };
    let first = plan.settings.first();
    let mut rows = Vec::new();
    for metric in metrics {
        let base = first.map(|setting| of(setting, metric)).unwrap_or_default();
        for setting in &plan.settings {
            let own = of(setting, metric);
            let numbers: Vec<f64> = own.values().copied().collect();
            let paired: Vec<f64> = own
                .iter()
                .filter_map(|(seed, value)| Some(value - base.get(seed)?))
                .collect();
            if let Some(mean) = mean_by_t(&numbers) {
                rows.push(OutcomeRow {
                    metric: metric.clone(),
                    setting: setting.clone(),
                    mean,
                    difference: mean_by_t(&paired).filter(|_| Some(setting) != first),
                });
            }
        }
    }
    rows
}
