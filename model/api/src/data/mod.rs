//! What models read and write: `sequence.rs` token sequences, `picture.rs` small RGB pictures, `grid.rs` how a picture's codes lie.
//!
//! Not here: how examples become sequences, which is `demask-datasets`'.

pub mod grid;
pub mod picture;
pub mod sequence;
