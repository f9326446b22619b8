//! The log-probabilities and log-likelihoods that an engine computes for a client.

use std::time::Instant;

use demask_api::{Answer, LikelihoodQuery, Sequence};

use super::{Engine, SMALL_CACHE, not_loaded};
use crate::engine::validation;
use crate::error::Result;
use crate::likelihood::{Company, log_likelihoods};
use crate::policy;
use crate::training::loss::LossRow;
use crate::training::mask_sampling::masked;

/// The largest number of tokens scored between two checks of whether the client still waits.
const WAVE: usize = 8192;

impl Engine {
    /// Estimates the log-likelihoods of answers. `is_gone` is called between batches, and the work ends once
    /// it returns true.
    ///
    /// # Errors
    /// Returns an error that names an invalid query, a refusal if nobody waits any more, and libtorch's
    /// errors.
    pub fn log_likelihoods(
        &mut self,
        queries: &[LikelihoodQuery],
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Answer> {
        let began = Instant::now();
        self.weights_at_hand()?;
        self.shelf.clear_beyond(SMALL_CACHE);
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        let tokens = self.limits_for(model, self.shelf.bytes()).tokens.min(WAVE);
        let company = Company { tokens, is_gone };
        let values = log_likelihoods(&model.backbone, queries, &company)?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Answer::LogLikelihoods { values, seconds })
    }

    /// Returns the log-probabilities of the tokens at these positions, which are masked together.
    pub(super) fn log_probs(&mut self, sequences: &[Sequence], positions: &[Vec<usize>]) -> Result<Answer> {
        let backbone = &self.model()?.backbone;
        validation::positions(backbone.config(), sequences, positions)?;
        let mask_token = backbone.config().mask_token_id;
        let values = sequences
            .iter()
            .zip(positions)
            .map(|(sequence, positions)| {
                if positions.is_empty() {
                    return Ok(Vec::new());
                }
                let row = LossRow {
                    ids: masked(&sequence.ids, positions, mask_token),
                    left_pad: sequence.left_pad,
                    targets: positions.iter().map(|&at| (at, sequence.ids[at], 1.0)).collect(),
                };
                Ok(Vec::<f32>::try_from(policy::score(backbone, &[row])?)?)
            })
            .collect::<Result<_>>()?;
        Ok(Answer::LogProbs { values })
    }
}
