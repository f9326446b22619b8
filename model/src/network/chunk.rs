//! A chunk: the places of one row that a sampler's forward pass computes.

/// The part of one row that a pass computes. A place is an index into the row without its leading padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The cache slot of the row's keys and values.
    pub slot: usize,
    /// The tokens of the computed places.
    pub ids: Vec<u32>,
    /// The computed places, ascending. Place 0 is the row's first real token.
    pub places: Vec<usize>,
    /// The position of place 0 for the rotary embedding: the leading padding counts as positions.
    pub offset: usize,
    /// The number of places of the row. Queries attend to all of them.
    pub keys: usize,
    /// The number of leading places that are soft padding: they attend and are attended to, but only pairs without them
    /// get +1 on their score (`mmada.md` 1.5, the behaviour of the published trainer).
    pub soft_pad: usize,
}
