//! A scored completion: the value and weight of each reward, and their weighted sum.

use serde::{Deserialize, Serialize};

/// The contribution of one reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The reward's name.
    pub name: String,
    /// The unweighted value.
    pub value: f64,
    /// The weight.
    pub weight: f64,
}

/// A scored completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The contributions.
    pub parts: Vec<Part>,
}

impl Scored {
    /// Adds a contribution.
    pub fn push(&mut self, name: &str, value: f64, weight: f64) {
        self.parts.push(Part {
            name: name.to_owned(),
            value,
            weight,
        });
    }

    /// Returns the weighted sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|part| part.value * part.weight).sum()
    }
}
