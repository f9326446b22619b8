//! Ids that sort by the time when they were made.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{NoContext, Timestamp, Uuid};

/// A new id (UUID, version 7). On a machine whose clock stands before 1970 it is of 1970's first moment.
#[must_use]
pub fn new_id() -> Uuid {
    if SystemTime::now() < UNIX_EPOCH {
        return Uuid::new_v7(Timestamp::from_unix(NoContext, 0, 0));
    }
    Uuid::now_v7()
}
