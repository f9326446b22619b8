//! A step that several processes do together (`world`), with the same bits for any number of them (law L11).
//!
//! A batch is cut into units, whose number follows from its rows alone; rank r of N does units r, r + N, …, each with one thread of
//! the CPU's libraries. Every rank owns some of the weights, cut at multiples of [`CHUNK`]: their moments, moving average and
//! accumulator are there alone. After each round of units every rank sends every owner its piece of the gradient, and the owner
//! adds the pieces in the order of the ranks, which is the order of the units. So sums are those of one rank that does all units one
//! after the other. The gradient's norm is a sum over chunks in their order; the update is elementwise.
//!
//! What else a rank keeps follows from how its network was loaded. With all weights (ZeRO 2, arXiv 1910.02054) it owns one range, and
//! what the owners updated goes to all at the end of a step. With its part of every group of weights alone (ZeRO 3, FSDP) a group
//! is brought together where it is computed with (`sweep.rs`, `weight_traffic.rs`); then a rank does one unit at a time.
//!
//! - `share.rs`: a rank's part of what is trained, and its update;
//! - `units.rs`: the units of a batch, round by round;
//! - `weight_traffic.rs`: groups of weights, and their gradients, on their way between ranks.

mod share;
mod units;
mod weight_traffic;

use demask_api::Shard;

pub use share::Share;
pub use units::admit;
pub(crate) use units::{Units, gradients};

/// How gradients of several ranks become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// In the order of the units: the same bits for any number of ranks.
    #[default]
    Exact,
    /// In c10d's order: other bits for another number of ranks.
    Fast,
}

/// How ranks train together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankOptions {
    /// How their gradients become one.
    pub reduction: Reduction,
    /// What each keeps alone.
    pub shard: Shard,
}
