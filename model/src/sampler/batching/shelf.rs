//! The storage for a cache between two runs of requests, so that the next run need not allocate it, or record its CUDA
//! graph, again.

use std::cell::RefCell;

use super::device_loop::DeviceBlock;
use crate::network::kv_cache::KvCache;

/// The place of a network's cache between two runs of requests.
#[derive(Debug, Default)]
pub struct Shelf {
    kept: RefCell<Option<KeptCache>>,
}

/// A cache, with the device block and the CUDA graph that use its memory.
#[derive(Debug)]
pub(super) struct KeptCache {
    pub cache: KvCache,
    pub device_block: Option<DeviceBlock>,
    /// The number of steps of the last block that ran to its end on the device.
    pub last_block_steps: usize,
}

impl Shelf {
    /// Returns the size of the kept cache in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kept.borrow().as_ref().map_or(0, |kept| kept.cache.bytes())
    }

    /// Drops the kept cache if it is larger than `bytes`, to free its memory. A recorded graph belongs to one network,
    /// so a caller that loads another network clears the shelf with 0.
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
