//! Some places of one row that a pass of a sampler computes.

/// What a pass computes of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the row's keys and values are kept.
    pub slot: usize,
    /// Tokens of the computed places.
    pub ids: Vec<u32>,
    /// The computed places, ascending; place 0 is the row's first real token.
    pub places: Vec<usize>,
    /// Position of place 0: padding consumes positions.
    pub offset: usize,
    /// How many places the row has, all of them keys.
    pub keys: usize,
    /// How many of them, from the first on, are padding that is merely weaker: pairs of two others have 1 added to their
    /// score (`mmada.md` 1.5, what the published trainer did).
    pub soft_pad: usize,
}
