//! Aside requests: samples or picture codes that a user asks for while the engine samples for others or
//! trains. An aside request does not change the result of the work in progress (law L8), and it does not wait
//! for that work to end (law L10).

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

/// The model that answers aside requests, with the limits on how much of it is computed at one time.
#[derive(Clone, Copy, Debug)]
pub struct AsideDesk<'a> {
    pub(super) model: SampledModel<'a>,
    pub(super) limits: Limits,
}

impl AsideDesk<'_> {
    /// Answers a request for samples, which run in a batch of their own, or for picture codes. Sampling stops
    /// between two forward passes once `is_gone` returns true.
    ///
    /// # Errors
    /// Returns the errors of sampling and of encoding, and refuses every other kind of request.
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
                "only samples and picture codes can be computed beside other work".into(),
            )),
        }
    }
}

/// The clients whose aside requests wait while a model is trained.
pub trait Bystanders {
    /// Returns whether a client waits for an answer.
    fn are_waiting(&mut self) -> bool;

    /// Answers the waiting clients.
    ///
    /// # Errors
    /// Returns a device fault only, which also ends the work in progress.
    fn answer(&mut self, desk: &AsideDesk<'_>) -> Result<()>;

    /// Answers the waiting clients with the error that prevents their requests.
    fn refuse(&mut self, error: &EngineError);
}

/// Bystanders that never ask.
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

/// The interlude that answers bystanders between two micro-batches of a training step.
pub(super) struct AnsweredBetween<'a> {
    /// Whether bystanders are answered during the step; if false, they wait for its end.
    pub(super) answers: bool,
    pub(super) bystanders: &'a mut dyn Bystanders,
    pub(super) tokenizer: Option<&'a ImageTokenizer>,
    /// The optimizer step of the weights.
    pub(super) step: u64,
    /// The device and dtype of the computation.
    pub(super) place: &'a Place,
    /// The upper bound on what is sampled at one time.
    pub(super) most: Limits,
}

impl Interlude for AnsweredBetween<'_> {
    fn is_wanted(&mut self) -> bool {
        self.answers && self.bystanders.are_waiting()
    }

    /// Answers with a twin of the network, so that the network's dropout and accumulated gradients stay as
    /// they are.
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

/// Returns how much of a network is computed at one time without gradients: `most`, or less if the device
/// lacks the memory. `more` is a number of bytes that may be used beside the free ones.
pub(super) fn limits_on(place: &Place, most: Limits, config: &BackboneConfig, more: u64) -> Limits {
    match cuda::memory(place.device) {
        Some(memory) => sampling_limits(most, memory.available() + more, config, place.kind),
        None => most,
    }
}

/// Runs one request in a batch of its own until it is answered or `is_gone` returns true.
///
/// # Errors
/// Returns the errors of sampling, and a refusal if the request was cancelled.
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
                    "the request for these samples was cancelled".into(),
                ));
            }
            None => {}
        }
    }
}

/// Returns the error of a request that needs an image tokenizer when the model has none.
pub(super) fn no_tokenizer() -> ModelError {
    ModelError::Refused("the model has no image tokenizer".into())
}
