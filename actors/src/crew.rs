//! Whom the trainer asks: the addresses of those who make what it trains on.

use crate::curating::Curator;
use crate::evaluator::EvaluatorDesk;
use crate::reasoner::Reasoner;
use crate::rollout::RolloutDesk;
use crate::supervisor::Address;

/// Whom the trainer asks.
#[derive(Clone)]
pub struct Crew {
    /// Batches and the pool of traces.
    pub curator: Address<Curator>,
    /// Traces.
    pub reasoner: Address<Reasoner>,
    /// Scored groups.
    pub rollout: RolloutDesk,
    /// Benchmarks.
    pub evaluator: EvaluatorDesk,
}
