//! Inpainting and outpainting: the unknown codes of a picture are sampled, and the known ones stay.

use demask_api::Answer;
use demask_datasets::prompts::sequences::SequenceError;

use super::complete::{CompletionRequest, CompletionResult, Inference, asked_about};
use super::error::WorkError;
use super::settings::SamplerSettings;
use crate::engine::actor::FrameSink;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;

impl Inference {
    /// Samples the codes of a picture that are not `known`; the others stay. `known` has one entry per code of the
    /// picture, row by row.
    ///
    /// # Errors
    /// As [`Self::complete`]; also an error if `known` has another length than the model's pictures.
    pub async fn inpaint(
        &self,
        link: &dyn EngineLink,
        wanted: &CompletionRequest,
        known: &[Option<u32>],
        samplers: &SamplerSettings,
        frames: Option<FrameSink>,
    ) -> Result<CompletionResult, WorkError> {
        let mut prompt = self
            .builder()
            .prompt(&asked_about(&wanted.example), wanted.mode, &[])?;
        let (expected, found) = (prompt.target.len(), known.len());
        if expected != found {
            return Err(SequenceError::Codes { expected, found }.into());
        }
        for (at, code) in known.iter().enumerate() {
            if let Some(code) = code {
                prompt.ids[prompt.target.start + at] = self.builder().image_ids(&[*code])[0];
            }
        }
        let prompts = std::slice::from_ref(&prompt);
        let samples = self
            .fill(link, prompts, std::slice::from_ref(wanted), samplers, frames)
            .await?;
        let none = || unexpected("a sample", &Answer::Done);
        let sample = samples.into_iter().next().ok_or_else(none)?;
        self.made(&prompt, wanted, sample, None)
    }
}
