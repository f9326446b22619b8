//! What a row on its way wants of the next pass.

use std::ops::Range;

use super::draw::{Noise, Writable};

/// Which positions of a row a pass computes, counted from the row's first position, padding and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compute {
    /// All of them.
    All,
    /// Some that stand together.
    Range(Range<usize>),
    /// Some, ascending.
    Some(Vec<usize>),
}

/// A position of the target whose logits are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// Counted from the target's start; a computed position.
    pub at: usize,
    /// How it is drawn.
    pub noise: Noise,
}

/// What a lane wants of the next pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// What is computed.
    pub compute: Compute,
    /// What is drawn, ascending.
    pub wants: Vec<Want>,
}

/// The columns of the vocabulary that a lane's logits have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Columns {
    /// The first.
    pub start: u32,
    /// Behind the last.
    pub end: u32,
    /// Which of them may be written, counted from the first.
    pub writable: Writable,
}

/// A probability as a byte.
pub(super) fn byte(value: f32) -> u8 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    byte
}

/// A probability as f32.
pub(super) fn single(value: f64) -> f32 {
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    single
}
