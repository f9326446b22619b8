//! The data that models read and write.
//!
//! - `sequence.rs`: token sequences;
//! - `picture.rs`: small RGB pictures;
//! - `grid.rs`: the grid of a picture's codes.
//!
//! Not here: how examples become sequences (`demask-datasets`).

pub mod grid;
pub mod picture;
pub mod sequence;
