//! The items of a file that a person names, read when they are first asked for.

use std::sync::{Mutex, PoisonError};

use crate::benchmarks::{Item, SuiteError};

/// Reads the items from the first on, so many at least if there are so many.
type ReadItems = Box<dyn Fn(usize) -> Result<Vec<Item>, String> + Send + Sync>;

/// A file's items, as many of them as were asked for.
pub(super) struct ReadOnce {
    name: String,
    read: ReadItems,
    kept: Mutex<KeptItems>,
}

#[derive(Default)]
struct KeptItems {
    items: Vec<Item>,
    /// Whether the file has no others.
    are_all: bool,
}

impl ReadOnce {
    /// The items of the benchmark of this name. `read` is told how many are wanted; it may read more, and less only where
    /// there are no more.
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

    /// The benchmark's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The first items, at most `count`.
    ///
    /// # Errors
    /// The file cannot be read, or a row gives no item: which, and why.
    pub(super) fn first(&self, count: usize) -> Result<Vec<Item>, SuiteError> {
        self.with(count, |items| items.iter().take(count).cloned().collect())
    }

    /// How many items there are; none where they cannot be read.
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
