//! The model of a run as it is now: whom a person may ask at any moment, also in the middle of a step.

use std::sync::Arc;

use crate::engine::actor::EngineAddress;
use crate::inference::complete::Inference;
use crate::inference::settings::SamplerSettings;

/// The model of a run as it is now.
#[derive(Clone)]
pub struct PresentModel {
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// The engine that has the weights.
    pub engine: EngineAddress,
    /// How it is asked by a person: as well as it can.
    pub samplers: SamplerSettings,
    /// Side of its pictures in pixels.
    pub pixels: usize,
    /// The run's seed.
    pub seed: u64,
}

impl std::fmt::Debug for PresentModel {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("PresentModel")
            .field("samplers", &self.samplers)
            .finish_non_exhaustive()
    }
}
