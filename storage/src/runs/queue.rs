//! The queue of runs. A run waits from the commit of its queue row until its own row exists or it is cancelled.
//! Whenever the daemon dies, the run is therefore started exactly once (law L1).

use rusqlite::{Connection, params};

use crate::record::RunRequest;
use crate::store::StoreError;

/// A waiting run.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingRun {
    /// The run's id.
    pub run: String,
    /// The profile's name.
    pub profile: String,
    /// BLAKE3 of its configuration.
    pub config_hash: String,
    /// The request, or why this version cannot read it.
    pub request: Result<RunRequest, String>,
}

/// Returns the ids of the waiting runs, the next one first.
///
/// # Errors
/// Any SQLite error.
pub fn ids(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut query = connection.prepare("SELECT run FROM v_queue ORDER BY place")?;
    let rows = query.query_map(params![], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the waiting runs, the next one first. A request that this version cannot read keeps no other run from being
/// begun, moved or cancelled.
///
/// # Errors
/// Any SQLite error.
pub fn waiting(connection: &Connection) -> Result<Vec<WaitingRun>, StoreError> {
    let mut query = connection.prepare(
        "SELECT run, profile, config_hash, request FROM queue
         WHERE cancelled IS NULL AND run NOT IN (SELECT id FROM run) ORDER BY place, run",
    )?;
    let rows = query.query_map(params![], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?))
    })?;
    rows.map(|row| {
        let (run, profile, config_hash, request): (String, String, String, String) = row?;
        let request = serde_json::from_str(&request).map_err(|error| {
            format!("the queued run {run}: this version of demask cannot read its request: {error}")
        });
        Ok(WaitingRun {
            run,
            profile,
            config_hash,
            request,
        })
    })
    .collect()
}

/// Returns the order of the waiting runs after `run` moves to a place, from 1; a place beyond the end means the last.
#[must_use]
pub fn moved(waiting: &[String], run: &str, place: usize) -> Vec<String> {
    let mut order: Vec<String> = waiting.iter().filter(|one| *one != run).cloned().collect();
    order.insert(place.saturating_sub(1).min(order.len()), run.to_owned());
    order
}

/// Finds the waiting run with this id or name, else the only one whose id begins or ends so.
///
/// # Errors
/// A message if no run or several runs match.
pub fn named<'a>(waiting: &'a [WaitingRun], named: &str) -> Result<&'a WaitingRun, String> {
    let name = |one: &WaitingRun| one.request.as_ref().ok()?.labels.name.clone();
    let whole = |one: &&WaitingRun| one.run == named || name(one).as_deref() == Some(named);
    let partly =
        |one: &&WaitingRun| !named.is_empty() && (one.run.starts_with(named) || one.run.ends_with(named));
    let mut found: Vec<&WaitingRun> = waiting.iter().filter(whole).collect();
    if found.is_empty() {
        found = waiting.iter().filter(partly).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(format!(
            "no queued run has the name '{named}', or an id that begins or ends with it; `demask queue list` lists the queued runs"
        )),
        many => Err(format!(
            "'{named}' matches {} queued runs; give more of the id",
            many.len()
        )),
    }
}
