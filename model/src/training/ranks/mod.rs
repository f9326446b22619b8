//! Sharded data-parallel training: several processes (`world`) take one step together. The result has the same bits for
//! any number of processes (law L11).
//!
//! A batch is divided into units. The number of units depends only on the rows of the batch. Rank r of N computes units
//! r, r + N, …, and each unit uses one thread of the CPU's libraries.
//!
//! Every rank owns a part of the parameters, cut at multiples of [`CHUNK`](crate::weights::shards::CHUNK). Only the
//! owner has the optimizer state of its part: the moments, the moving average and the gradient accumulator. After each
//! round of units, every rank sends each owner that owner's piece of the gradient. The owner adds the pieces in the
//! order of the ranks, which is the order of the units. The sums therefore equal those of a single rank that computes
//! all units one after the other. The gradient norm is a sum over chunks in their order. Adam's update is elementwise;
//! Muon's is computed of whole matrices. Random numbers, of noise and of dropout, are functions of the step's seed and
//! of the row or the unit.
//!
//! The way in which the network was loaded determines how the weights are stored:
//!
//! - All weights on every rank (ZeRO 2, arXiv 1910.02054): a rank owns one contiguous range, and the updated ranges are
//!   all-gathered at the end of a step.
//! - A part of every group of weights on each rank (ZeRO 3, FSDP): a group is gathered when it is needed (`sweep.rs`,
//!   `weight_traffic.rs`), and a rank computes one unit at a time.
//!
//! Files:
//!
//! - `share.rs`: the part of the parameters that a rank owns, and its update;
//! - `matrices.rs`: matrices that one rank computes Muon's update of, from the parts of all;
//! - `units.rs`: the units of a batch, round by round;
//! - `weight_traffic.rs`: the all-gather of weight groups, and the exchange of their gradients.

mod matrices;
mod share;
mod units;
mod weight_traffic;

use demask_api::Shard;

pub use share::Share;
pub(crate) use units::{Units, gradients};

/// How the gradients of several ranks are summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// In the order of the units. The result has the same bits for any number of ranks.
    #[default]
    Exact,
    /// In the order of c10d's all-reduce. The bits depend on the number of ranks.
    Fast,
}

/// The options of training on several ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankOptions {
    /// How the gradients of the ranks are summed.
    pub reduction: Reduction,
    /// What is divided over the ranks.
    pub shard: Shard,
}
