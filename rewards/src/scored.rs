//! A scored completion: each reward's own value beside its weight, and their weighted sum.

use serde::{Deserialize, Serialize};

/// One reward's part of a sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The reward.
    pub name: String,
    /// Its own value.
    pub value: f64,
    /// Its weight.
    pub weight: f64,
}

/// A scored completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The parts.
    pub parts: Vec<Part>,
}

impl Scored {
    /// Adds a part.
    pub fn push(&mut self, name: &str, value: f64, weight: f64) {
        self.parts.push(Part {
            name: name.to_owned(),
            value,
            weight,
        });
    }

    /// The weighted sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|part| part.value * part.weight).sum()
    }
}
