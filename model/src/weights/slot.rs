//! A parameter before it has values.

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Published name.
    pub name: String,
    /// Sides, outermost first.
    pub shape: Vec<i64>,
    /// Stands under the slot before it in one matrix product: they share a leaf, stacked on the first side.
    pub stacked: bool,
}

impl Slot {
    /// A slot.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: &[i64]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            stacked: false,
        }
    }

    /// The slot, sharing the leaf of the slot before it.
    #[must_use]
    pub fn stack(mut self) -> Self {
        self.stacked = true;
        self
    }

    pub(crate) fn len(&self) -> i64 {
        self.shape.iter().product()
    }
}
