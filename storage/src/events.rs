//! Queries of the event log: events after a sequence number, and what a late client has missed.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::record::{Envelope, Metric, Record};
use crate::store::StoreError;

/// Returns the durable events after a sequence number, oldest first.
///
/// # Errors
/// Any SQLite error.
pub fn events_since(connection: &Connection, seq: u64, limit: u64) -> Result<Vec<Envelope>, StoreError> {
    events(
        connection,
        "SELECT seq, at_us, body FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        params![seq as i64, limit as i64],
    )
}

/// The number of last steps whose metrics [`recent_events`] returns.
const CURVES: i64 = 1000;
/// The number of watched samples whose frames [`recent_events`] returns.
const WATCHED: i64 = 8;

/// Returns what a late client has missed: the current run's curves, last watched samples, benchmarks and last events,
/// each oldest first. Metrics and frames have no sequence number; theirs is 0.
///
/// # Errors
/// Any SQLite error.
pub fn recent_events(connection: &Connection, recent: u64) -> Result<Vec<Envelope>, StoreError> {
    let run: Option<String> = connection
        .query_row(
            "SELECT run FROM event WHERE run <> '' ORDER BY seq DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let Some(run) = run else {
        return Ok(Vec::new());
    };
    let mut missed = curves(connection, &run)?;
    missed.extend(watched(connection, &run)?);
    missed.extend(events(
        connection,
        "SELECT seq, at_us, body FROM event
         WHERE run = ?1 AND (kind = 'eval' OR seq > (SELECT max(seq) FROM event) - ?2)
         ORDER BY seq",
        params![run, recent as i64],
    )?);
    Ok(missed)
}

/// Returns a run's metrics of its last steps, one record a step.
fn curves(connection: &Connection, run: &str) -> Result<Vec<Envelope>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT step, name, value, at_us FROM v_metric
         WHERE run = ?1 AND value IS NOT NULL AND step > (SELECT max(step) FROM v_latest WHERE run = ?1) - ?2
         ORDER BY step, name",
    )?;
    let mut rows = query.query(params![run, CURVES])?;
    let mut steps: Vec<Envelope> = Vec::new();
    while let Some(row) = rows.next()? {
        let (step, value) = (row.get::<_, i64>(0)? as u64, (row.get(1)?, row.get(2)?));
        match steps.last_mut().map(|envelope| &mut envelope.record) {
            Some(Record::Metric(metric)) if metric.step == step => metric.values.push(value),
            _ => steps.push(Envelope {
                seq: 0,
                at_us: row.get(3)?,
                record: Record::Metric(Metric {
                    run: run.to_owned(),
                    step,
                    values: vec![value],
                }),
            }),
        }
    }
    Ok(steps)
}

/// Returns the frames of a run's last watched samples, whose ids begin with the run's.
fn watched(connection: &Connection, run: &str) -> Result<Vec<Envelope>, StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT at_us, body FROM frame WHERE sample IN
            (SELECT sample FROM frame WHERE sample > ?1 || '/' AND sample < ?1 || '0'
             GROUP BY sample ORDER BY max(at_us) DESC, sample DESC LIMIT ?2)
         ORDER BY at_us, sample, step",
    )?;
    let rows = query.query_map(params![run, WATCHED], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut frames = Vec::new();
    for row in rows {
        let (at_us, body) = row?;
        if let Ok(frame) = serde_json::from_str(&body) {
            frames.push(Envelope {
                seq: 0,
                at_us,
                record: Record::Frame(frame),
            });
        }
    }
    Ok(frames)
}

fn events(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Envelope>, StoreError> {
    let mut query = connection.prepare_cached(sql)?;
    let rows = query.query_map(parameters, |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, String>(2)?,
        ))
    })?;
    let mut events = Vec::new();
    for row in rows {
        let (seq, at_us, body) = row?;
        if let Ok(record) = serde_json::from_str(&body) {
            events.push(Envelope {
                seq: seq as u64,
                at_us,
                record,
            });
        }
    }
    Ok(events)
}

/// Returns the last sequence number.
///
/// # Errors
/// Any SQLite error.
pub fn last_seq(connection: &Connection) -> Result<u64, StoreError> {
    let seq: Option<i64> = connection.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    Ok(seq.unwrap_or(0) as u64)
}
