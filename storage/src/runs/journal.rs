//! What a restart needs: the unfinished run, its commands in order, and its checkpoints (laws L1 and L4).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::record::{Checkpoint, Labels, Run, Steer};
use crate::store::StoreError;
use crate::vocabulary::{RunState, SteerAction};

/// The columns of a run, as [`begun`] reads them.
const RUN: &str = "id, parent, parent_step, profile, config, config_hash, seed, host, version, generation, name, tags, note, status";

/// Reads a row of [`RUN`]: a run as it began, and its state.
fn begun(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Run, RunState)> {
    let (config, tags): (String, String) = (row.get(4)?, row.get(11)?);
    let run = Run {
        id: row.get(0)?,
        parent: row.get(1)?,
        parent_step: row.get::<_, Option<i64>>(2)?.map(|step| step as u64),
        profile: row.get(3)?,
        config: serde_json::from_str(&config).unwrap_or_default(),
        config_hash: row.get(5)?,
        seed: row.get::<_, i64>(6)? as u64,
        host: row.get(7)?,
        version: row.get(8)?,
        generation: row.get::<_, i64>(9)? as u64,
        labels: Labels {
            name: row.get(10)?,
            tags: serde_json::from_str(&tags).unwrap_or_default(),
            note: row.get(12)?,
        },
    };
    Ok((run, row.get(13)?))
}

/// Returns the newest run without an end.
///
/// # Errors
/// Any SQLite error.
pub fn unfinished(connection: &Connection) -> Result<Option<Run>, StoreError> {
    let sql = format!(
        "SELECT {RUN} FROM run WHERE status IN ('running', 'interrupted') ORDER BY started_us DESC LIMIT 1"
    );
    let found = connection.query_row(&sql, [], begun).optional()?;
    Ok(found.map(|(run, _)| run))
}

/// Returns whether a run has a row. This works for a store of any schema version, and also for a file without tables,
/// which has no rows.
///
/// # Errors
/// Any SQLite error.
pub fn has_run(connection: &Connection, id: &str) -> Result<bool, StoreError> {
    let has_table = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'run')";
    if !connection.query_row(has_table, [], |row| row.get::<_, bool>(0))? {
        return Ok(false);
    }
    let has_row = "SELECT EXISTS (SELECT 1 FROM run WHERE id = ?1)";
    Ok(connection.query_row(has_row, params![id], |row| row.get(0))?)
}

/// Returns a run as it began, and its state; `None` if it does not exist.
///
/// # Errors
/// Any SQLite error.
pub fn run(connection: &Connection, id: &str) -> Result<Option<(Run, RunState)>, StoreError> {
    let sql = format!("SELECT {RUN} FROM run WHERE id = ?1");
    Ok(connection.query_row(&sql, params![id], begun).optional()?)
}

/// Returns the steps of a run's checkpoints that other runs start from, if these runs are unfinished or waiting.
///
/// # Errors
/// Any SQLite error.
pub fn begun_from(connection: &Connection, run: &str) -> Result<Vec<u64>, StoreError> {
    let mut query = connection.prepare(
        "SELECT parent_step FROM run WHERE parent = ?1 AND status <> 'done' AND parent_step IS NOT NULL
         UNION SELECT json_extract(request, '$.parent.step') FROM queue
         WHERE CASE WHEN json_valid(request) THEN json_extract(request, '$.parent.run') = ?1 END
         AND cancelled IS NULL AND run NOT IN (SELECT id FROM run)",
    )?;
    let steps = query.query_map(params![run], |row| Ok(row.get::<_, i64>(0)? as u64))?;
    Ok(steps.collect::<Result<_, _>>()?)
}

/// Returns a run's commands, oldest first. Those with an applied step take effect there again; the others do at the
/// next boundary.
///
/// # Errors
/// Any SQLite error.
pub fn steers(connection: &Connection, run: &str) -> Result<Vec<Steer>, StoreError> {
    let mut query = connection.prepare(
        "SELECT id, run, by, action, key, old, new, asked_step, applied_step FROM steer WHERE run = ?1 ORDER BY rowid",
    )?;
    let rows = query.query_map(params![run], |row| {
        Ok(Steer {
            id: row.get(0)?,
            run: row.get(1)?,
            by: row.get(2)?,
            action: row.get(3)?,
            key: row.get(4)?,
            old: row.get(5)?,
            new: row.get(6)?,
            asked_step: row.get::<_, i64>(7)? as u64,
            applied_step: row.get::<_, Option<i64>>(8)?.map(|step| step as u64),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the ids of the last stops of all runs with the runs that they were for, newest first, at most `most`.
///
/// # Errors
/// Any SQLite error.
pub fn stops(connection: &Connection, most: u32) -> Result<Vec<(String, String)>, StoreError> {
    let mut query =
        connection.prepare("SELECT id, run FROM steer WHERE action = ?1 ORDER BY rowid DESC LIMIT ?2")?;
    let rows = query.query_map(params![SteerAction::Stop, most], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns a run's kept checkpoints, newest first.
///
/// # Errors
/// Any SQLite error.
pub fn checkpoints(connection: &Connection, run: &str) -> Result<Vec<Checkpoint>, StoreError> {
    let mut query = connection.prepare(
        "SELECT hash, run, step, weights, path, reason, bytes, kept FROM checkpoint WHERE run = ?1 AND kept ORDER BY step DESC",
    )?;
    let rows = query.query_map(params![run], |row| {
        Ok(Checkpoint {
            hash: row.get(0)?,
            run: row.get(1)?,
            step: row.get::<_, i64>(2)? as u64,
            weights: row.get::<_, i64>(3)? as u64,
            path: row.get(4)?,
            reason: row.get(5)?,
            bytes: row.get::<_, i64>(6)? as u64,
            kept: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the time at which rank 0 of a run joined its world, in microseconds since the epoch, and the number of times
/// that the ranks were restarted; `None` if no rank has reported a step.
///
/// # Errors
/// Any SQLite error.
pub fn world(connection: &Connection, run: &str) -> Result<Option<(i64, u64)>, StoreError> {
    let sql = "SELECT began_us, restarts FROM rank WHERE run = ?1 AND rank = 0";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64));
    Ok(connection.query_row(sql, params![run], row).optional()?)
}

/// A teacher's answer that is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherAnswer {
    /// Id of the example that the teacher was asked about.
    pub example: String,
    /// Text of the answer.
    pub text: String,
    /// Settings of the request, with the tokens that were paid for.
    pub sampler: serde_json::Value,
}

/// Returns a teacher's answers in a round of a run by trace id, so that they are not requested twice.
///
/// # Errors
/// Any SQLite error.
pub fn taught(
    connection: &Connection,
    run: &str,
    round: u64,
) -> Result<BTreeMap<String, TeacherAnswer>, StoreError> {
    let mut query = connection.prepare(
        "SELECT id, example, text, sampler FROM trace WHERE run = ?1 AND round = ?2 AND generator LIKE 'teacher:%'",
    )?;
    let rows = query.query_map(params![run, round as i64], |row| {
        let sampler: String = row.get(3)?;
        let answer = TeacherAnswer {
            example: row.get(1)?,
            text: row.get(2)?,
            sampler: serde_json::from_str(&sampler).unwrap_or_default(),
        };
        Ok((row.get(0)?, answer))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the number of tokens for which a run has paid a teacher.
///
/// # Errors
/// Any SQLite error.
pub fn taught_tokens(connection: &Connection, run: &str) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(sum(json_extract(sampler, '$.tokens')), 0) FROM trace WHERE run = ?1 AND generator LIKE 'teacher:%'";
    Ok(connection.query_row(sql, params![run], |row| row.get::<_, i64>(0))? as u64)
}
