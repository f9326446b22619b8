//! The addresses of the actors that the trainer asks.

use crate::pipeline::curation::curator::Curator;
use crate::pipeline::evaluation::evaluator::EvaluatorHandle;
use crate::pipeline::reasoner::Reasoner;
use crate::pipeline::rollout::RolloutHandle;
use crate::pipeline::sampling_engines::SamplingEngines;
use crate::runtime::supervisor::Address;

/// The addresses of the actors that the trainer asks.
#[derive(Clone)]
pub struct Addresses {
    /// Makes batches and keeps the pool of traces.
    pub curator: Address<Curator>,
    /// Makes reasoning traces.
    pub reasoner: Address<Reasoner>,
    /// Draws and scores groups.
    pub rollout: RolloutHandle,
    /// Engines that only sample.
    pub samplers: SamplingEngines,
    /// Runs benchmarks.
    pub evaluator: EvaluatorHandle,
}
