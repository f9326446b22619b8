//! The request of a row for its next forward pass, or for several steps that the device runs without the host.

use std::ops::Range;

use super::draw::{Noise, Writable};

/// The positions of a row that a forward pass computes, counted from the row's first position, padding included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compute {
    /// All positions.
    All,
    /// A contiguous range of positions.
    Range(Range<usize>),
    /// A list of positions, ascending.
    Some(Vec<usize>),
}

/// A position of the target that is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawPosition {
    /// The position, counted from the target's start. It is among the computed positions.
    pub at: usize,
    /// The temperature and the uniform number of the draw.
    pub noise: Noise,
}

/// The request of a row for one forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardRequest {
    /// The positions whose hidden states are computed.
    pub compute: Compute,
    /// The positions at which a token is drawn, ascending.
    pub positions: Vec<DrawPosition>,
}

/// The columns of the vocabulary for which a row's logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Columns {
    /// The first column.
    pub start: u32,
    /// The end of the columns, exclusive.
    pub end: u32,
    /// The columns that may be drawn, counted from `start`.
    pub writable: Writable,
}

/// The steps that are left of a block, for a device that runs them without the host.
#[derive(Clone, Debug, PartialEq)]
pub struct RemainingSteps {
    /// The positions of the row that each step computes, padding included in the count.
    pub computed: Range<usize>,
    /// The positions of the block, counted in the same way.
    pub window: Range<usize>,
    /// The index of the block.
    pub block: usize,
    /// The number of steps that the block has taken.
    pub taken: usize,
    /// The number of masked positions in the block.
    pub masked: usize,
    /// The rule for how many positions each step commits.
    pub commits: RemainingCommits,
}

/// The rule for how many positions each of the remaining steps commits.
#[derive(Clone, Debug, PartialEq)]
pub enum RemainingCommits {
    /// The counts of the schedule, one per step.
    Counts(Vec<usize>),
    /// The most probable position, and all positions with at least this probability.
    Threshold(f64),
}

/// A threshold that no probability reaches.
const NEVER: f64 = 2.0;

impl RemainingCommits {
    /// Returns the least number of positions that a step commits.
    pub fn count(&self, step: usize) -> i64 {
        match self {
            Self::Counts(counts) => counts.get(step).copied().unwrap_or(0) as i64,
            Self::Threshold(_) => 1,
        }
    }

    /// Returns the probability from which on a position is always committed.
    pub fn threshold(&self) -> f64 {
        match self {
            Self::Counts(_) => NEVER,
            Self::Threshold(threshold) => *threshold,
        }
    }
}

impl RemainingSteps {
    /// Returns the number of steps to run before the host reads the results.
    ///
    /// A schedule runs all its steps. A threshold does not know how many it needs: it assumes that the block takes as
    /// many steps as the last one (`last_block_steps`; with 0, if there was none, one step for every two masked
    /// positions). It runs at least two steps, unless fewer positions are masked.
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

/// Converts a probability to a byte, 255 for 1.
pub(super) fn byte(value: f32) -> u8 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    byte
}

/// Converts a probability to f32.
pub(super) fn single(value: f64) -> f32 {
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    single
}
