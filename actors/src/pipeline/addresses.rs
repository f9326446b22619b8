//! Whom the trainer asks: the addresses of those who make what it trains on.

use crate::pipeline::curation::curator::Curator;
use crate::pipeline::evaluation::evaluator::EvaluatorHandle;
use crate::pipeline::reasoner::Reasoner;
use crate::pipeline::rollout::RolloutHandle;
use crate::pipeline::sampling_engines::SamplingEngines;
use crate::runtime::supervisor::Address;

/// Whom the trainer asks.
#[derive(Clone)]
pub struct Addresses {
    /// Batches and the pool of traces.
    pub curator: Address<Curator>,
    /// Traces.
    pub reasoner: Address<Reasoner>,
    /// Scored groups.
    pub rollout: RolloutHandle,
    /// The engines that only sample.
    pub samplers: SamplingEngines,
    /// Benchmarks.
    pub evaluator: EvaluatorHandle,
}
