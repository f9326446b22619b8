//! The present model of a run, which the user may ask at any moment, also during a step.

use std::sync::Arc;

use crate::engine::address::EngineAddress;
use crate::inference::complete::Inference;
use crate::inference::settings::SamplerSettings;

/// The present model of a run.
#[derive(Clone)]
pub struct PresentModel {
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// The engine that holds the weights.
    pub engine: EngineAddress,
    /// Samplers for the user's questions, set for the best answers.
    pub samplers: SamplerSettings,
    /// Side of the model's pictures in pixels.
    pub pixels: usize,
    /// Seed of the run.
    pub seed: u64,
}

impl std::fmt::Debug for PresentModel {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("PresentModel")
            .field("samplers", &self.samplers)
            .finish_non_exhaustive()
    }
}
