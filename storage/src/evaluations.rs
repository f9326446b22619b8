//! Queries of evaluations outside runs: the interrupted one, similar ones, and the items of an evaluation.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::RunState;
use crate::record::{EvalItem, Evaluation};
use crate::store::StoreError;

/// Returns the id of the newest evaluation with these parameters that did not end.
///
/// # Errors
/// Any SQLite error.
pub fn interrupted(connection: &Connection, like: &Evaluation) -> Result<Option<String>, StoreError> {
    let sql = "SELECT id FROM evaluation WHERE state = 'running' AND checkpoint = ?1 AND suites = ?2 AND settings = ?3
               AND seed = ?4 AND item_limit IS ?5 AND version = ?6 ORDER BY started_us DESC LIMIT 1";
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let values = params![
        like.checkpoint,
        json(serde_json::to_string(&like.suites)),
        json(serde_json::to_string(&like.settings)),
        like.seed as i64,
        like.limit.map(|limit| limit as i64),
        like.version,
    ];
    Ok(connection.query_row(sql, values, |row| row.get(0)).optional()?)
}

/// Returns the evaluations of the same weights with the same settings, whatever their suites and limits, oldest first.
/// Their items are equal to those that would be computed again.
///
/// # Errors
/// Any SQLite error.
pub fn alike(connection: &Connection, like: &Evaluation) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT id FROM evaluation WHERE checkpoint = ?1 AND settings = ?2 AND seed = ?3 AND version = ?4
               ORDER BY started_us";
    let settings = serde_json::to_string(&like.settings).unwrap_or_default();
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map(
        params![like.checkpoint, settings, like.seed as i64, like.version],
        |row| row.get(0),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns every evaluation outside runs, oldest first.
///
/// # Errors
/// Any SQLite error.
pub fn all(connection: &Connection) -> Result<Vec<Evaluation>, StoreError> {
    let mut query = connection.prepare(
        "SELECT id, checkpoint, suites, settings, seed, item_limit, host, version, state FROM evaluation ORDER BY started_us",
    )?;
    let rows = query.query_map([], |row| {
        let json = |text: String| serde_json::from_str(&text).unwrap_or_default();
        let state: String = row.get(8)?;
        Ok(Evaluation {
            id: row.get(0)?,
            checkpoint: row.get(1)?,
            suites: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
            settings: json(row.get(3)?),
            seed: row.get::<_, i64>(4)? as u64,
            limit: row.get::<_, Option<i64>>(5)?.map(|limit| limit as u64),
            host: row.get(6)?,
            version: row.get(7)?,
            state: state.parse().unwrap_or(RunState::Running),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns every item of an evaluation, or of a run's evaluation at a step, by suite and number.
///
/// # Errors
/// Any SQLite error.
pub fn items(connection: &Connection, run: &str, step: u64) -> Result<Vec<EvalItem>, StoreError> {
    let mut query = connection.prepare(
        "SELECT suite, number, item, category, counted, prompt, picture, output, drawn, answer, reference, credit, tokens,
         forwards, seconds FROM item WHERE run = ?1 AND step = ?2 ORDER BY suite, number",
    )?;
    let count = |row: &rusqlite::Row<'_>, at: usize| row.get::<_, i64>(at).map(|count| count as u64);
    let rows = query.query_map(params![run, step as i64], |row| {
        Ok(EvalItem {
            run: run.to_owned(),
            step,
            suite: row.get(0)?,
            number: count(row, 1)?,
            item: row.get(2)?,
            category: row.get(3)?,
            counted: row.get(4)?,
            prompt: row.get(5)?,
            picture: row.get(6)?,
            output: row.get(7)?,
            drawn: row.get(8)?,
            answer: row.get(9)?,
            reference: row.get(10)?,
            credit: row.get(11)?,
            tokens: count(row, 12)?,
            forwards: count(row, 13)?,
            seconds: row.get(14)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the evaluations and runs that have items, newest first, each with the last step that has some.
///
/// # Errors
/// Any SQLite error.
pub fn evaluated(connection: &Connection) -> Result<Vec<(String, u64)>, StoreError> {
    let mut query = connection.prepare(
        "SELECT item.run, max(item.step) FROM item GROUP BY item.run ORDER BY
         coalesce((SELECT max(at_us) FROM eval WHERE eval.run = item.run),
                  (SELECT started_us FROM evaluation WHERE id = item.run), 0) DESC",
    )?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
