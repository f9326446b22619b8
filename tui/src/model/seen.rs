//! Deduplication by name: a resumed run repeats its last steps and their records.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The most names that are kept; the oldest is dropped first.
const KEPT: usize = 20_000;

/// Values by name, the newest [`KEPT`] of them.
#[derive(Debug)]
pub struct Seen<K, V> {
    values: HashMap<K, V>,
    /// The names, oldest first.
    order: VecDeque<K>,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Seen<K, V> {
    /// Stores a value; returns the previous one of this name.
    pub fn put(&mut self, name: K, value: V) -> Option<V> {
        let before = self.values.insert(name.clone(), value);
        if before.is_none() {
            self.order.push_back(name);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
        before
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.values.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_holds_the_newest_value_and_the_oldest_name_goes_first() {
        let mut seen = Seen::default();
        assert_eq!(seen.put(0, "a"), None);
        assert_eq!(seen.put(0, "b"), Some("a"));
        for name in 1..=KEPT {
            seen.put(name, "c");
        }
        assert_eq!((seen.values.len(), seen.put(1, "d")), (KEPT, Some("c")));
        assert_eq!(seen.put(0, "e"), None, "it was forgotten");
    }
}
