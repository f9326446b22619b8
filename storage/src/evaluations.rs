//! Evaluations outside a run, read: the one that was interrupted, and every item of an evaluation.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::record::{EvalItem, Evaluation};
use crate::store::StoreError;

/// The id of the newest evaluation that was begun like this one and did not end.
///
/// # Errors
/// SQLite's.
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

/// Every item of an evaluation, or of a run's evaluation at a step, by suite and number.
///
/// # Errors
/// SQLite's.
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

/// The evaluations and runs that have items, with the last step that has some, newest first.
///
/// # Errors
/// SQLite's.
pub fn evaluated(connection: &Connection) -> Result<Vec<(String, u64)>, StoreError> {
    let mut query = connection.prepare(
        "SELECT item.run, max(item.step) FROM item GROUP BY item.run ORDER BY
         coalesce((SELECT max(at_us) FROM eval WHERE eval.run = item.run),
                  (SELECT started_us FROM evaluation WHERE id = item.run), 0) DESC",
    )?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
