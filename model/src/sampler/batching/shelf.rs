//! What outlives a run of requests: the cache, and what was recorded on it, so that the next run makes neither anew.

use std::cell::RefCell;

use super::device_loop::Board;
use crate::network::kv_cache::KvCache;

/// Where a network's cache lies between two runs of requests.
#[derive(Debug, Default)]
pub struct Shelf {
    kept: RefCell<Option<Kept>>,
}

/// A cache, and what was recorded on it.
#[derive(Debug)]
pub(super) struct Kept {
    pub cache: KvCache,
    pub board: Option<Board>,
    /// How many steps the last block took that ended by itself.
    pub lately: usize,
}

impl Shelf {
    /// Bytes that lie here.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kept.borrow().as_ref().map_or(0, |kept| kept.cache.bytes())
    }

    /// Lets go of what takes more than so many bytes: others need the memory. What was recorded is of one network alone, so
    /// whoever loads another clears the shelf, with 0.
    pub fn clear_beyond(&self, bytes: u64) {
        if self.bytes() > bytes {
            self.kept.replace(None);
        }
    }

    pub(super) fn take(&self) -> Option<Kept> {
        self.kept.take()
    }

    pub(super) fn put(&self, kept: Option<Kept>) {
        self.kept.replace(kept);
    }
}
