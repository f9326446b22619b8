//! What outlives a run of requests: the cache, and what was recorded on it, so that the next run makes neither anew.

use std::cell::RefCell;

use super::device_loop::DeviceBlock;
use crate::network::kv_cache::KvCache;

/// Where a network's cache lies between two runs of requests.
#[derive(Debug, Default)]
pub struct Shelf {
    kept: RefCell<Option<KeptCache>>,
}

/// A cache, and what was recorded on it.
#[derive(Debug)]
pub(super) struct KeptCache {
    pub cache: KvCache,
    pub device_block: Option<DeviceBlock>,
    /// How many steps the last block took that ended by itself.
    pub last_block_steps: usize,
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

    pub(super) fn take(&self) -> Option<KeptCache> {
        self.kept.take()
    }

    pub(super) fn put(&self, kept: Option<KeptCache>) {
        self.kept.replace(kept);
    }
}
