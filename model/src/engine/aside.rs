//! What a person asks for aside: samples or codes of the model as it is, while others are sampled or the model is trained. What
//! is under way stays as it is (law L8), and is not waited for (law L10).

use std::time::Instant;

use demask_api::{Answer, BackboneConfig, EngineError, Request, SampleFrame, SampleRequest};
use tch::TchError;

use crate::device::cuda;
use crate::engine::device_choice::Place;
use crate::engine::sample_requests::{RunningRequests, SampledModel};
use crate::error::{ModelError, Result};
use crate::image_tokenizer::ImageTokenizer;
use crate::network::backbone::Backbone;
use crate::sampler::{Limits, sampling_limits};
use crate::training::interlude::Interlude;

/// A model that is asked aside.
#[derive(Clone, Copy, Debug)]
pub struct AsideDesk<'a> {
    pub(super) model: SampledModel<'a>,
    pub(super) limits: Limits,
}

impl AsideDesk<'_> {
    /// Does what is asked for: samples in a batch of their own, or codes. Samples are given up between two passes when whoever
    /// asked is gone.
    ///
    /// # Errors
    /// Why it could not; anything else than samples and codes.
    pub fn answer(
        &self,
        request: Request,
        is_gone: &dyn Fn() -> bool,
        on_frame: &mut dyn FnMut(SampleFrame),
    ) -> Result<Answer> {
        let began = Instant::now();
        match request {
            Request::Sample { requests } => {
                let sampling = RunningRequests::new(self.model, self.limits);
                alone(sampling, requests, is_gone, on_frame)
            }
            Request::Encode { pictures } => {
                let tokenizer = self.model.tokenizer.ok_or_else(no_tokenizer)?;
                Ok(Answer::Codes {
                    codes: tokenizer.encode(&pictures)?,
                    seconds: began.elapsed().as_secs_f64(),
                })
            }
            _ => Err(ModelError::Refused(
                "only samples and codes can be asked for aside".into(),
            )),
        }
    }
}

/// Those who ask aside while a model is trained.
pub trait Bystanders {
    /// Whether one of them waits for an answer.
    fn are_waiting(&mut self) -> bool;

    /// Answers those who wait.
    ///
    /// # Errors
    /// The device failed: what is under way ends with it.
    fn answer(&mut self, desk: &AsideDesk<'_>) -> Result<()>;

    /// Tells those who wait why they cannot be answered.
    fn refuse(&mut self, error: &EngineError);
}

/// Nobody asks.
#[derive(Debug)]
pub struct Nobody;

impl Bystanders for Nobody {
    fn are_waiting(&mut self) -> bool {
        false
    }

    fn answer(&mut self, _: &AsideDesk<'_>) -> Result<()> {
        Ok(())
    }

    fn refuse(&mut self, _: &EngineError) {}
}

/// Answers bystanders between two micro-batches of a step.
pub(super) struct AnsweredBetween<'a> {
    /// False where they wait for the end of the step.
    pub(super) answers: bool,
    pub(super) bystanders: &'a mut dyn Bystanders,
    pub(super) tokenizer: Option<&'a ImageTokenizer>,
    /// The optimiser's step that the weights are of.
    pub(super) step: u64,
    /// Where it is computed.
    pub(super) place: &'a Place,
    /// How much is sampled at one time, at most.
    pub(super) most: Limits,
}

impl Interlude for AnsweredBetween<'_> {
    fn is_wanted(&mut self) -> bool {
        self.answers && self.bystanders.are_waiting()
    }

    /// On a twin: the network's own dropout, and the gradients that it has, stay as they are.
    fn take(&mut self, begun_with: &Backbone) -> Result<()> {
        let twin = match begun_with.ready_to_sample().and_then(|()| begun_with.twin()) {
            Ok(twin) => twin,
            Err(error) => return self.give_up(error),
        };
        let desk = AsideDesk {
            model: SampledModel {
                backbone: &twin,
                tokenizer: self.tokenizer,
                step: self.step,
            },
            limits: limits_on(self.place, self.most, begun_with.config(), 0),
        };
        cuda::leniently(|| self.bystanders.answer(&desk))
    }

    fn give_up(&mut self, error: ModelError) -> Result<()> {
        if error.is_device_fault() {
            return Err(error);
        }
        self.bystanders.refuse(&error.into());
        Ok(())
    }
}

/// How much of a network is computed at one time without gradients: `most`, unless the device has memory for less; `more` bytes
/// may be taken beside those that are free.
pub(super) fn limits_on(place: &Place, most: Limits, config: &BackboneConfig, more: u64) -> Limits {
    match cuda::memory(place.device) {
        Some(memory) => sampling_limits(most, memory.available() + more, config, place.kind),
        None => most,
    }
}

/// One request in a batch of its own, until it is answered or nobody waits for it any more.
///
/// # Errors
/// Why it could not be answered; nobody waits for it any more.
pub(super) fn alone(
    mut sampling: RunningRequests<'_>,
    requests: Vec<SampleRequest>,
    is_gone: &dyn Fn() -> bool,
    on_frame: &mut dyn FnMut(SampleFrame),
) -> Result<Answer> {
    sampling.join(0, requests)?;
    loop {
        match sampling.step(&mut |_, frame| on_frame(frame))?.pop() {
            Some((_, Answer::Failed(EngineError::Device { message }))) => {
                return Err(ModelError::Torch(TchError::Torch(message)));
            }
            Some((_, answer)) => return Ok(answer),
            None if is_gone() => {
                return Err(ModelError::Refused(
                    "nobody waits for these samples any more".into(),
                ));
            }
            None => {}
        }
    }
}

/// A model without an image tokenizer was asked for what needs one.
pub(super) fn no_tokenizer() -> ModelError {
    ModelError::Refused("the model has no image tokenizer".into())
}
