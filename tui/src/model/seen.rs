//! What was taken in already, each under its name: a new life of a run does its last steps again and tells of them again.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How many names are kept; the oldest goes first.
const KEPT: usize = 20_000;

/// Values by name, the newest [`KEPT`] of them.
#[derive(Debug)]
pub struct Seen<K, V> {
    values: HashMap<K, V>,
    /// Oldest first.
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
    /// Keeps a value; the one that stood under this name before.
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

    /// Forgets everything.
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
