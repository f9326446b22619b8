//! Unique ids that sort by creation time.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{NoContext, Timestamp, Uuid};

/// Returns a new id (UUID version 7). If the clock of the machine stands before 1970, the id carries the first moment
/// of 1970.
#[must_use]
pub fn new_id() -> Uuid {
    if SystemTime::now() < UNIX_EPOCH {
        return Uuid::new_v7(Timestamp::from_unix(NoContext, 0, 0));
    }
    Uuid::now_v7()
}
