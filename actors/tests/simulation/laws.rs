//! Checks the laws on what a schedule leaves behind: its rows and weights are compared with those of an
//! undisturbed run.

use std::collections::BTreeMap;

use demask_actors::control::is_resumption;
use demask_actors::home::Home;
use demask_storage::{Command, RunState, Steer, journal, store};

use crate::ground::Ground;
use crate::people::{Cast, query};
use crate::schedule::Schedule;
use crate::weights::{TakenStep, WEIGHTS, Weights, rate_at};

/// Queries of what a run did, one line per row. The rows must not depend on interruptions (L1, L5, L6, L8).
const TABLES: [(&str, &str); 7] = [
    (
        "lineage",
        "SELECT step || '|' || stage || '|' || subject || '|' || source || '|' || generator || '|' || verifier || '|' || score \
         FROM v_lineage ORDER BY step, subject",
    ),
    (
        "rollouts",
        "SELECT sample || '|' || example || '|' || weights || '|' || text || '|' || total || '|' || advantage || '|' || trained \
         FROM v_rollout ORDER BY sample",
    ),
    (
        "traces",
        // A stopped run may leave a trace that no gate has judged yet.
        "SELECT trace || '|' || round || '|' || example || '|' || generator || '|' || text || '|' || gate || '|' || passed \
         FROM v_trace WHERE gate IS NOT NULL ORDER BY trace, gate",
    ),
    (
        "evaluations",
        "SELECT step || '|' || checkpoint || '|' || suite || '|' || value || '|' || n || '|' || coalesce(decision, '') \
         FROM v_eval ORDER BY step, suite",
    ),
    (
        "items",
        "SELECT body FROM (SELECT step || '|' || suite || '|' || item || '|' || output AS body FROM v_item) ORDER BY body",
    ),
    (
        "clean",
        // Rows that are checked again after a death are counted again.
        "SELECT benchmark || '|' || source || '|' || rule || '|' || (checked > 0) || '|' || overlapped FROM v_clean ORDER BY 1",
    ),
    (
        "metrics",
        "SELECT name || '|' || step || '|' || value FROM v_metric WHERE name GLOB 'train/loss' OR name GLOB 'policy/*' \
         OR name GLOB 'reason/*' OR name GLOB 'reward/*' ORDER BY name, step",
    ),
];

/// The optimizer steps of a policy step, in the profile.
const INNER_STEPS: u64 = 2;

/// Returns a query of [`TABLES`] without what depends on how fast engines are, if the freshest weights draw: which
/// weights drew a group.
fn comparable(ground: &Ground, sql: &str) -> String {
    match ground.takes_freshest() {
        true => sql
            .replace(" || '|' || weights", "")
            .replace(" || '|' || generator", ""),
        false => sql.to_owned(),
    }
}

/// What a schedule leaves behind.
pub struct Remains {
    ended: Option<RunState>,
    status: String,
    tables: BTreeMap<&'static str, Vec<String>>,
    /// The newest checkpoint and its step.
    checkpoint: Option<(u64, Weights)>,
    steers: Vec<Steer>,
    /// Rollouts that are staler than the bound, or that name other weights than their staleness.
    stale: Vec<String>,
}

impl Remains {
    pub fn of(home: &Home, cast: &Cast, ground: &Ground) -> Self {
        let run = cast.run.clone().unwrap_or_default();
        let table = |sql| {
            query(home, &comparable(ground, sql))
                .into_iter()
                .map(|line| line.replace(&run, "RUN"))
                .collect()
        };
        let connection = store::open_read_only(&home.database()).unwrap();
        let newest = journal::checkpoints(&connection, &run)
            .unwrap()
            .into_iter()
            .next();
        let checkpoint = newest.map(|saved| {
            let text = std::fs::read_to_string(home.root().join(&saved.path).join(WEIGHTS));
            (
                saved.step,
                text.map_or_else(
                    |_| Weights::default(),
                    |text| serde_json::from_str(&text).unwrap(),
                ),
            )
        });
        Self {
            ended: cast.ended,
            status: query(home, "SELECT status || ': ' || reason FROM v_run").concat(),
            tables: TABLES.into_iter().map(|(name, sql)| (name, table(sql))).collect(),
            checkpoint,
            steers: journal::steers(&connection, &run).unwrap(),
            stale: query(home, &stale(ground)),
        }
    }
}

/// Returns the query for rollouts that are staler than the bound, or, with the freshest weights, whose weights are not
/// those of the start of the step that their staleness names.
fn stale(ground: &Ground) -> String {
    let (align, before, bound) = (ground.align, ground.optimizer_steps, ground.staleness);
    let others = match ground.takes_freshest() {
        true => format!("weights <> {before} + {INNER_STEPS} * (step - staleness - {align})"),
        false => "false".to_owned(),
    };
    format!(
        "SELECT sample || ' has staleness ' || staleness || ' and weights ' || weights FROM v_rollout \
         WHERE staleness > {bound} OR {others}"
    )
}

/// Returns every violation of a law.
pub fn broken(left: &Remains, cast: &Cast, schedule: &Schedule, ground: &Ground) -> Vec<String> {
    let mut broken = Vec::new();
    let stops = schedule.acts.iter().any(|act| act.command == Command::Stop);
    match left.ended {
        Some(RunState::Done) => {}
        Some(RunState::Stopped) if stops => {}
        ended => broken.push(format!("L1: the run ended {ended:?}: {}", left.status)),
    }
    broken.extend(orders(left, cast, ground.total, schedule.is_undisturbed()));
    broken.extend(weights(left, ground));
    broken.extend(left.stale.iter().map(|sample| format!("L7: sample {sample}")));
    if let Some(calm) = ground.calm() {
        broken.extend(rows(left, calm));
    }
    broken
}

/// Checks L3 and L4: an acknowledged command has a row, and it took effect if the run ended regularly.
fn orders(left: &Remains, cast: &Cast, total: u64, is_undisturbed: bool) -> Vec<String> {
    let mut broken = Vec::new();
    let resumption = left.steers.iter().rfind(|row| is_resumption(row));
    let resumed = resumption.map(|row| row.asked_step);
    for (number, (id, command)) in cast.acknowledged.iter().enumerate() {
        match left.steers.iter().filter(|row| row.id == *id).collect::<Vec<_>>()[..] {
            [row] if row.applied_step.is_some() => {}
            // The command was still being written at the last step boundary, or the run was stopped
            // meanwhile.
            [row] if row.asked_step + 4 >= total || left.ended == Some(RunState::Stopped) => {}
            [_] if *command == Command::Stop && number < cast.lapsed => {}
            // It came between a resumption and the life after it, which has no boundary if only the end was left to do.
            // Both have the step of the newest checkpoint that has a row, which that of the last step may lack.
            [row] if Some(row.asked_step) == resumed && (1..=number).contains(&cast.lapsed) => {}
            [row] => broken.push(format!(
                "L4: {id} ({command:?}) was acknowledged at step {} of {total} and never took effect",
                row.asked_step
            )),
            ref rows => broken.push(format!("L4: {id} ({command:?}) has {} rows", rows.len())),
        }
    }
    // After a death, repeated steps come before the step at which a command was given, so only undisturbed
    // runs are checked.
    for row in left.steers.iter().filter(|_| is_undisturbed) {
        if row.applied_step.is_some_and(|applied| applied < row.asked_step) {
            broken.push(format!("L3: {} took effect before it was asked for", row.id));
        }
    }
    broken
}

/// Checks L1 and L8: the weights contain every step once, in order.
fn weights(left: &Remains, ground: &Ground) -> Vec<String> {
    let Some((step, weights)) = &left.checkpoint else {
        // A run may be stopped before it has a checkpoint.
        let is_early = left.ended == Some(RunState::Stopped);
        return if is_early {
            Vec::new()
        } else {
            vec!["L1: there is no checkpoint".into()]
        };
    };
    let mut broken = Vec::new();
    if left.ended == Some(RunState::Done) && *step != ground.total {
        let total = ground.total;
        broken.push(format!("L1: the last checkpoint is of step {step} of {total}"));
    }
    for taken in &weights.taken {
        let wanted = rate_at(taken.step, left.steers.iter());
        if (taken.learning_rate - wanted).abs() > 1e-12 {
            let (step, rate) = (taken.step, taken.learning_rate);
            broken.push(format!(
                "L4: step {step} was taken with {rate}, the rows say {wanted}"
            ));
        }
    }
    if let Some(calm) = ground.calm().and_then(|calm| calm.checkpoint.as_ref()) {
        let same = |taken: &TakenStep| (taken.step, taken.content, taken.subjects.len());
        let wanted: Vec<_> = calm
            .1
            .taken
            .iter()
            .filter(|taken| taken.step < *step)
            .map(same)
            .collect();
        let found: Vec<_> = weights.taken.iter().map(same).collect();
        if wanted != found {
            broken.push(format!("L8: the weights took {found:?}, undisturbed {wanted:?}"));
        }
    }
    broken
}

/// Checks L1, L5, L6 and L8: the rows are those of an undisturbed run. A stopped run has a subset of them.
fn rows(left: &Remains, calm: &Remains) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, wanted) in &calm.tables {
        let found = &left.tables[name];
        let differs = match left.ended {
            Some(RunState::Done) => found != wanted,
            _ => found.iter().any(|line| !wanted.contains(line)),
        };
        if differs {
            let more = found.iter().find(|line| !wanted.contains(line));
            let less = wanted.iter().find(|line| !found.contains(line));
            broken.push(format!(
                "L5, L8: {name} has {} rows, undisturbed {}; too much: {more:?}; missing: {less:?}",
                found.len(),
                wanted.len()
            ));
        }
    }
    broken
}
