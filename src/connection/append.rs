//! Writing of records by a command itself, beside a daemon that may be writing too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demask_storage::{Record, StoreError, Writer};

/// Tries to write to a store that another program has locked. Each try waits as long as SQLite itself does.
const TRIES: usize = 12;

/// Writes records in one transaction, after any other writer.
///
/// # Errors
/// Any error of the store; [`StoreError::Busy`] if another program holds the lock for a minute.
pub fn append(writer: &mut Writer, records: &[Record]) -> Result<(), StoreError> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = i64::try_from(at.as_ref().map_or(0, Duration::as_micros)).unwrap_or(i64::MAX);
    for _ in 1..TRIES {
        match writer.append(records, at) {
            // A daemon is writing too; SQLite has waited for it.
            Err(StoreError::Busy) => {}
            other => return other.map(drop),
        }
    }
    writer.append(records, at).map(drop)
}
