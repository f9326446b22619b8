//! The items of a user's file, read on first use and then cached.

use std::sync::{Mutex, PoisonError};

use crate::benchmarks::{Item, SuiteError};

/// Reads items from the first on: at least `count`, or all if there are fewer.
type ReadItems = Box<dyn Fn(usize) -> Result<Vec<Item>, String> + Send + Sync>;

/// The items of a file that were read so far.
pub(super) struct ReadOnce {
    name: String,
    read: ReadItems,
    kept: Mutex<KeptItems>,
}

#[derive(Default)]
struct KeptItems {
    items: Vec<Item>,
    /// Whether the file has no more.
    are_all: bool,
}

impl ReadOnce {
    /// Makes the cache of a benchmark's items. `read` is given the number of wanted items; it may return more, and
    /// fewer only if there are no more.
    pub(super) fn new(
        name: &str,
        read: impl Fn(usize) -> Result<Vec<Item>, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            read: Box::new(read),
            kept: Mutex::default(),
        }
    }

    /// Returns the benchmark's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the first items, at most `count`.
    ///
    /// # Errors
    /// An error if the file cannot be read or a row yields no item; it names the row and the reason.
    pub(super) fn first(&self, count: usize) -> Result<Vec<Item>, SuiteError> {
        self.with(count, |items| items.iter().take(count).cloned().collect())
    }

    /// Returns the number of items; 0 if they cannot be read.
    pub(super) fn size(&self) -> usize {
        self.with(usize::MAX, <[Item]>::len).unwrap_or(0)
    }

    fn with<T>(&self, count: usize, then: impl FnOnce(&[Item]) -> T) -> Result<T, SuiteError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.items.len() < count && !kept.are_all {
            let named = |why| SuiteError::Absent(format!("benchmark {}: {why}", self.name));
            let items = (self.read)(count).map_err(named)?;
            let are_all = items.len() != count;
            *kept = KeptItems { items, are_all };
        }
        Ok(then(&kept.items))
    }
}
