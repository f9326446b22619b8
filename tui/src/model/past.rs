//! A stored run: the queries that open it, and its reconstructed overview. It may be finished, or be the current one.

use demask_storage::query::curves::{points_sql, quoted, turns_sql};
use demask_storage::{Command, Overview, Record, RunState, StageView};
use serde_json::Value;

/// The column that marks a result as a run's events.
pub const EVENTS: &str = "opened";
/// The column that marks a result as a run's funnel.
pub const FUNNEL: &str = "funnel";
/// The column that marks a result as start times of runs.
pub const BEGAN: &str = "began";
/// The newest events that are read of a run.
const RECENT: u64 = 2000;
/// The watched samples whose frames are read.
const WATCHED: u64 = 8;
/// The approximate number of points that are read per metric.
const POINTS: u64 = 300;
/// The most rows of a result.
const ROWS: u64 = 100_000;

fn ask(sql: String) -> Command {
    Command::Query { sql, limit: ROWS }
}

/// Returns the queries that open a run.
#[must_use]
pub fn questions(run: &str) -> Vec<Command> {
    let (all, id) = ([run.to_owned()], quoted(run));
    vec![
        ask(format!(
            "SELECT body AS {EVENTS}, at_us, (SELECT max(step) FROM v_latest WHERE run = {id}) AS step FROM (\
             SELECT seq, at_us, body FROM v_event WHERE run = {id} AND kind IN ('run', 'eval', 'run_end') UNION SELECT * FROM (\
             SELECT seq, at_us, body FROM v_event WHERE run = {id} AND kind IN \
             ('sample', 'steer', 'alert', 'checkpoint', 'lifecycle') ORDER BY seq DESC LIMIT {RECENT})) ORDER BY seq"
        )),
        watched(&id),
        funnel(run),
        ask(points_sql(&all, &["*".to_owned()], Some(POINTS))),
        ask(turns_sql(&all)),
    ]
}

/// Queries the frames of a run's last watched samples, whose ids begin with the run's, as events.
fn watched(id: &str) -> Command {
    ask(format!(
        "SELECT json_set(body, '$.record', 'frame') AS {EVENTS}, at_us, 0 AS step FROM frame WHERE sample IN (\
         SELECT sample FROM frame WHERE sample > {id} || '/' AND sample < {id} || '0' GROUP BY sample \
         ORDER BY max(at_us) DESC, sample DESC LIMIT {WATCHED}) ORDER BY at_us, sample, step"
    ))
}

/// Queries a run's funnel.
#[must_use]
pub fn funnel(run: &str) -> Command {
    let id = quoted(run);
    ask(format!(
        "SELECT source AS {FUNNEL}, gate, reason, sum(passed) AS passed, sum(rejected) AS rejected, run FROM v_funnel \
         WHERE run = {id} GROUP BY 1, 2, 3"
    ))
}

/// Queries points of a metric of these runs.
#[must_use]
pub fn points(runs: &[String], name: &str) -> Command {
    ask(points_sql(runs, &[exactly(name)], Some(POINTS)))
}

/// Queries the knobs that were turned in these runs.
#[must_use]
pub fn turns(runs: &[String]) -> Command {
    ask(turns_sql(runs))
}

/// Queries the start times of these runs.
#[must_use]
pub fn beginnings(runs: &[String]) -> Command {
    let runs: Vec<String> = runs.iter().map(|run| quoted(run)).collect();
    ask(format!(
        "SELECT run AS {BEGAN}, started_us FROM v_run WHERE run IN ({})",
        runs.join(", ")
    ))
}

/// Reads the start times of runs from a result, in microseconds since the Unix epoch.
pub(crate) fn beginnings_of(rows: &[Vec<String>]) -> impl Iterator<Item = (String, i64)> {
    rows.iter().filter_map(|row| match row.as_slice() {
        [run, began] => Some((run.clone(), began.parse().ok()?)),
        _ => None,
    })
}

/// Escapes a name as a pattern that matches only this name.
fn exactly(name: &str) -> String {
    name.chars().fold(String::new(), |mut pattern, sign| {
        match sign {
            '*' | '?' | '[' => pattern.extend(['[', sign, ']']),
            _ => pattern.push(sign),
        }
        pattern
    })
}

/// Reconstructs the state of a run at its last event, at a step.
#[must_use]
pub fn overview(records: &[Record], step: u64) -> Option<Overview> {
    let run = records.iter().find_map(|record| match record {
        Record::Run(run) => Some(run),
        _ => None,
    })?;
    let end = records.iter().rev().find_map(|record| match record {
        Record::RunEnd(end) => Some(end),
        _ => None,
    });
    let last_checkpoint = records.iter().rev().find_map(|record| match record {
        Record::Checkpoint(checkpoint) => Some(checkpoint.step),
        _ => None,
    });
    // Steps are numbered from 0, so the step of the last value is complete; a finished run is complete as a whole.
    let is_done = end.is_some_and(|end| end.status == RunState::Done);
    let stages = stages(&run.config, if is_done { u64::MAX } else { step + 1 });
    let present = stages.iter().position(|stage| stage.done < stage.total);
    Some(Overview {
        run: run.id.clone(),
        profile: run.profile.clone(),
        state: end.map_or(RunState::Running, |end| end.status),
        detail: end.map_or(String::new(), |end| end.reason.clone()),
        step: stages.iter().map(|stage| stage.done).sum(),
        total_steps: stages.iter().map(|stage| stage.total).sum(),
        stage: present.unwrap_or(stages.len().saturating_sub(1)),
        stages,
        tokens_per_s: 0.0,
        eta_s: None,
        elapsed_s: 0.0,
        devices: Vec::new(),
        ranks: Vec::new(),
        knobs: Vec::new(),
        last_checkpoint,
    })
}

/// Returns the stages of a configuration after `left` steps.
fn stages(config: &Value, mut left: u64) -> Vec<StageView> {
    let word = |stage: &Value, key: &str| stage[key].as_str().unwrap_or_default().to_owned();
    let stages = config["stage"].as_array().map_or(&[][..], Vec::as_slice);
    stages
        .iter()
        .map(|stage| {
            let total = stage["steps"].as_u64().unwrap_or(1);
            let done = left.min(total);
            left -= done;
            StageView {
                name: word(stage, "name"),
                kind: word(stage, "kind"),
                done,
                total,
            }
        })
        .collect()
}
