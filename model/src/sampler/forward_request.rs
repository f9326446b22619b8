//! What a row on its way wants of the next forward pass, or of a device that does several by itself.

use std::ops::Range;

use super::draw::{Noise, Writable};

/// Which positions of a row a forward pass computes, counted from the row's first position, padding and all.
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
pub struct DrawPosition {
    /// Counted from the target's start; a computed position.
    pub at: usize,
    /// The temperature and the uniform number that it is drawn with.
    pub noise: Noise,
}

/// What a row wants of the next forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardRequest {
    /// The positions whose hidden states are computed.
    pub compute: Compute,
    /// The positions that are drawn, ascending.
    pub positions: Vec<DrawPosition>,
}

/// The columns of the vocabulary that a row's logits have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Columns {
    /// The first column.
    pub start: u32,
    /// The column behind the last.
    pub end: u32,
    /// Which of them may be written, counted from the first.
    pub writable: Writable,
}

/// The steps that are left of a block, where a device can do them without asking.
#[derive(Clone, Debug, PartialEq)]
pub struct RemainingSteps {
    /// Places of the row that each computes, padding and all.
    pub computed: Range<usize>,
    /// Places of the block.
    pub window: Range<usize>,
    /// The block's number.
    pub block: usize,
    /// Steps that the block has taken.
    pub taken: usize,
    /// How many of its positions are masked.
    pub masked: usize,
    /// How many positions each step commits.
    pub commits: RemainingCommits,
}

/// How many are committed at each step.
#[derive(Clone, Debug, PartialEq)]
pub enum RemainingCommits {
    /// As many as the schedule says, step by step.
    Counts(Vec<usize>),
    /// The surest and all that are at least so probable.
    Threshold(f64),
}

/// Above every probability.
const NEVER: f64 = 2.0;

impl RemainingCommits {
    /// How many are committed at a step, at least.
    pub fn count(&self, step: usize) -> i64 {
        match self {
            Self::Counts(counts) => counts.get(step).copied().unwrap_or(0) as i64,
            Self::Threshold(_) => 1,
        }
    }

    /// From which probability on all are committed.
    pub fn threshold(&self) -> f64 {
        match self {
            Self::Counts(_) => NEVER,
            Self::Threshold(threshold) => *threshold,
        }
    }
}

impl RemainingSteps {
    /// How many steps to do before the host looks: all that the schedule has; else as many as would be left if the block took
    /// as many as the last one (0: there was none), and two at least, unless fewer are masked.
    pub fn steps(&self, last_block_steps: usize) -> usize {
        let steps = match &self.commits {
            RemainingCommits::Counts(counts) => counts.len(),
            RemainingCommits::Threshold(_) if last_block_steps == 0 => self.masked.div_ceil(2),
            RemainingCommits::Threshold(_) => last_block_steps
                .saturating_sub(self.taken)
                .max(2)
                .min(self.masked),
        };
        steps.min(self.window.len())
    }
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
