//! Records that a command writes into the store itself, beside a daemon that may be writing too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demask_storage::{Record, StoreError, Writer};

/// How often a store that another program holds is asked again, with as long between as SQLite itself waits.
const TRIES: usize = 12;

/// Writes records in one transaction, after whoever else is writing.
///
/// # Errors
/// The store's; [`StoreError::Busy`] where another program holds it for a minute.
pub fn append(writer: &mut Writer, records: &[Record]) -> Result<(), StoreError> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH);
    let at = i64::try_from(at.as_ref().map_or(0, Duration::as_micros)).unwrap_or(i64::MAX);
    for _ in 1..TRIES {
        match writer.append(records, at) {
            // A daemon writes too; SQLite has waited for it.
            Err(StoreError::Busy) => {}
            other => return other.map(drop),
        }
    }
    writer.append(records, at).map(drop)
}
