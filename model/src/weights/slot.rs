//! A slot: a parameter before it has values.

/// The name and shape of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The published name.
    pub name: String,
    /// The dimensions, outermost first.
    pub shape: Vec<i64>,
    /// Whether the parameter shares a leaf with the slot before it, stacked on the first dimension, so that one matrix
    /// product computes both.
    pub stacked: bool,
}

impl Slot {
    /// Creates a slot with its own leaf.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: &[i64]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            stacked: false,
        }
    }

    /// Makes the slot share the leaf of the slot before it.
    #[must_use]
    pub fn stack(mut self) -> Self {
        self.stacked = true;
        self
    }

    pub(crate) fn len(&self) -> i64 {
        self.shape.iter().product()
    }
}
