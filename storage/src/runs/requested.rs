//! What became of a run that was requested, so that a request which comes again is not done again (law L1).

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::StoreError;
use crate::vocabulary::RunState;

/// A run that was requested before.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedRun {
    /// BLAKE3 of its configuration.
    pub config_hash: String,
    /// What became of it.
    pub state: RequestState,
}

/// What became of a requested run.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestState {
    /// It was begun.
    Begun {
        /// Its state.
        status: RunState,
        /// The reason of its end; empty if it has not ended.
        reason: String,
    },
    /// It waits in the queue.
    Waiting,
    /// It waited in the queue and was cancelled.
    Cancelled {
        /// The reason.
        reason: String,
    },
}

/// Returns what became of the run with this id; `None` if none was requested.
///
/// # Errors
/// Any SQLite error.
pub fn requested(connection: &Connection, run: &str) -> Result<Option<RequestedRun>, StoreError> {
    let begun = |row: &rusqlite::Row<'_>| {
        Ok(RequestedRun {
            config_hash: row.get(0)?,
            state: RequestState::Begun {
                status: row.get(1)?,
                reason: row.get(2)?,
            },
        })
    };
    let sql = "SELECT config_hash, status, reason FROM run WHERE id = ?1";
    if let Some(begun) = connection.query_row(sql, params![run], begun).optional()? {
        return Ok(Some(begun));
    }
    let queued = |row: &rusqlite::Row<'_>| {
        Ok(RequestedRun {
            config_hash: row.get(0)?,
            state: match row.get::<_, Option<String>>(1)? {
                Some(reason) => RequestState::Cancelled { reason },
                None => RequestState::Waiting,
            },
        })
    };
    let sql = "SELECT config_hash, cancelled FROM queue WHERE run = ?1";
    Ok(connection.query_row(sql, params![run], queued).optional()?)
}
