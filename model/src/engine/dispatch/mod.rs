//! The engine: executes each request of the protocol on the loaded model.
//!
//! - `loading.rs`: the model, the reference policy and the reward networks that it loads;
//! - `scoring.rs`: log-probabilities and log-likelihoods;
//! - `in_world.rs`: an engine that is a rank of a world.

mod in_world;
mod loading;
mod scoring;

use std::rc::Rc;
use std::time::Instant;

use demask_api::{Answer, EngineInfo, PROTOCOL, Request, SampleFrame};

use crate::device::heartbeat;
use crate::engine::aside::{AnsweredBetween, AsideDesk, Bystanders, Nobody, alone, limits_on, no_tokenizer};
use crate::engine::checkpoint::LoadedModel;
use crate::engine::device_choice::Place;
use crate::engine::ranks;
use crate::engine::sample_requests::RunningRequests;
use crate::engine::verify;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::network::backbone::Backbone;
use crate::policy::step::PolicyRequest;
use crate::reward_networks::RewardNetworks;
use crate::sampler::{Limits, Shelf};
use crate::training::optimizer::AdamW;
use crate::training::ranks::RankOptions;
use crate::world::World;
use crate::{policy, training};

/// An engine: a device and dtype to compute with and, once loaded, a model.
#[derive(Debug)]
pub struct Engine {
    place: Place,
    /// A description of what the sandbox enforces.
    sandbox: String,
    limits: Limits,
    model: Option<LoadedModel>,
    /// The sampler's cache, kept between two sampling batches.
    shelf: Shelf,
    reference: Option<Backbone>,
    rewards: Option<RewardNetworks>,
    /// The world that this engine is a rank of, and the options of training in it.
    world: Option<(Rc<World>, RankOptions)>,
}

/// A sampler cache of more bytes than this is freed before any request other than sampling, which may need
/// the memory.
const SMALL_CACHE: u64 = 256 << 20;

impl Engine {
    /// Returns an engine without a model.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            sandbox: String::new(),
            limits: Limits::default(),
            model: None,
            shelf: Shelf::default(),
            reference: None,
            rewards: None,
            world: None,
        }
    }

    /// Makes the engine a rank of a world. On rank 0, a request that all ranks must execute is also sent to
    /// the others as an order. Every other rank only calls [`Self::follow`].
    #[must_use]
    pub fn in_world(self, world: Rc<World>, options: RankOptions) -> Self {
        Self {
            world: Some((world, options)),
            ..self
        }
    }

    /// Returns the device that computes.
    #[must_use]
    pub fn device(&self) -> tch::Device {
        self.place.device
    }

    /// Sets the bounds on what is sampled at one time.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the description of the sandbox that the process runs in.
    #[must_use]
    pub fn with_sandbox(self, sandbox: String) -> Self {
        Self { sandbox, ..self }
    }

    /// Executes a request. Preview frames go to `on_frame` before the answer.
    ///
    /// # Errors
    /// Returns the reason of the failure; the model is then as it was before the request.
    pub fn handle(&mut self, request: Request, on_frame: &mut dyn FnMut(SampleFrame)) -> Result<Answer> {
        self.handle_among(request, on_frame, &mut Nobody)
    }

    /// Executes a request like [`Self::handle`]. Aside requests of `bystanders` may be answered between two
    /// micro-batches of a step, with the weights that the step began with.
    ///
    /// # Errors
    /// Returns the errors of [`Self::handle`].
    pub fn handle_among(
        &mut self,
        request: Request,
        on_frame: &mut dyn FnMut(SampleFrame),
        bystanders: &mut dyn Bystanders,
    ) -> Result<Answer> {
        let Some((world, _)) = self.world.clone() else {
            return self.answer(request, on_frame, bystanders);
        };
        if ranks::needs_weights(&request) {
            self.weights_at_hand()?;
        }
        // Ranks share one fate: the others notice that this rank has left, and the process that started them
        // restarts all of them.
        let done = ranks::ordered(&world, &request).and_then(|()| self.answer(request, on_frame, bystanders));
        if let Err(lost @ ModelError::World(_)) = &done {
            crate::world::exit::leave(crate::world::exit::PEER_LOST, lost);
        }
        done
    }

    fn answer(
        &mut self,
        request: Request,
        on_frame: &mut dyn FnMut(SampleFrame),
        bystanders: &mut dyn Bystanders,
    ) -> Result<Answer> {
        let began = Instant::now();
        let seconds = || began.elapsed().as_secs_f64();
        // A large cache of the last sampling batch may hold memory that training or decoding needs.
        if !matches!(request, Request::Sample { .. } | Request::Aside { .. }) {
            self.shelf.clear_beyond(SMALL_CACHE);
        }
        match request {
            Request::Hello { protocol: PROTOCOL } => Ok(Answer::Hello(self.info())),
            Request::Hello { protocol } => Err(ModelError::Refused(format!(
                "the client speaks protocol {protocol}, but this engine speaks {PROTOCOL}"
            ))),
            Request::Load { model } => self.load(model),
            Request::Train {
                micro_batches,
                settings,
            } => {
                let (parts, mut between) = self.trained(bystanders)?;
                training::train_with(
                    parts.backbone,
                    parts.optimizer,
                    &micro_batches,
                    &settings,
                    &mut between,
                )
                .map(Answer::Trained)
            }
            Request::Policy {
                groups,
                estimator,
                objective,
                settings,
                behaviour,
            } => {
                let asked = PolicyRequest {
                    groups: &groups,
                    estimator: &estimator,
                    objective: &objective,
                    settings: &settings,
                    behaviour: &behaviour,
                };
                let (parts, mut between) = self.trained(bystanders)?;
                policy::train_with(
                    parts.backbone,
                    parts.optimizer,
                    parts.reference,
                    asked,
                    &mut between,
                )
                .map(Answer::PolicyTrained)
            }
            Request::ScoreViews(asked) => {
                let values = policy::score_views(&self.model()?.backbone, &asked)?;
                let seconds = seconds();
                Ok(Answer::ViewsScored { values, seconds })
            }
            Request::SetReference { checkpoint } => self.set_reference(checkpoint.as_deref()),
            Request::ReadMark { path, token } => self.read_mark(&path, &token),
            Request::Sample { requests } => alone(self.sampling()?, requests, &|| false, on_frame),
            Request::Aside { request } => self.desk()?.answer(*request, &|| false, on_frame),
            Request::LogProbs { sequences, masked } => self.log_probs(&sequences, &masked),
            Request::LogLikelihoods { queries } => self.log_likelihoods(&queries, &|| false),
            Request::TrainTokenizer { pictures, settings } => {
                let (tokenizer, trainer) = self.tokenizer()?;
                let mut report = trainer.step(tokenizer, &pictures, &settings)?;
                report.seconds = seconds();
                Ok(Answer::TokenizerTrained(report))
            }
            Request::Encode { pictures } => {
                let codes = self.tokenizer()?.0.encode(&pictures)?;
                let seconds = seconds();
                Ok(Answer::Codes { codes, seconds })
            }
            Request::Decode { codes, grid } => Ok(Answer::Pictures {
                pictures: self.tokenizer()?.0.decode(&codes, grid)?,
            }),
            Request::Save {
                dir,
                attach,
                optimizer,
            } => {
                if self.world.as_ref().is_some_and(|(world, _)| world.rank() > 0) {
                    return self.model()?.give(optimizer).map(|()| Answer::Done);
                }
                let model = self.model()?;
                let saved = model.save(&dir, &attach, optimizer)?;
                Ok(Answer::Saved {
                    hash: saved.hash,
                    bytes: saved.bytes,
                    step: model.optimizer.step_count(),
                    seconds: seconds(),
                })
            }
            Request::Verify {
                checkpoint,
                reference,
            } => Ok(Answer::Verified {
                tensors: verify::verify_in(&checkpoint, &reference, self.place.device, self.place.kind)?,
            }),
            Request::LoadReward { clip, image_reward } => self.load_reward(clip, image_reward),
            Request::Score { pictures, texts } => {
                let rewards = self.rewards.as_ref().ok_or_else(|| {
                    ModelError::Refused("no reward network is loaded; send load_reward first".into())
                })?;
                let scores = rewards.score(&pictures, &texts)?;
                let seconds = seconds();
                Ok(Answer::Scores { scores, seconds })
            }
            Request::Heartbeat => {
                let (beats, busy) = heartbeat::read();
                Ok(Answer::Heartbeat { beats, busy })
            }
            Request::Exit => Ok(Answer::Done),
        }
    }

    fn info(&self) -> EngineInfo {
        EngineInfo {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: crate::device::cuda::torch_version(),
            pid: std::process::id(),
            device: self.place.info(),
            sandbox: self.sandbox.clone(),
        }
    }

    fn model(&mut self) -> Result<&mut LoadedModel> {
        loaded(&mut self.model)
    }

    /// Drops the gradients that a request may have left when it ended in a panic. A rank of a world exits
    /// instead.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn recover(&mut self) -> Result<()> {
        if self.world.is_some() {
            // The position of the peers in the step is unknown, so training together cannot continue.
            crate::world::exit::leave(crate::world::exit::FAULT, &"a panic");
        }
        if let Some(model) = &mut self.model {
            model.backbone.set_dropout(None);
            model.optimizer.discard(model.backbone.trained_mut())?;
            if let Some((tokenizer, trainer)) = &mut model.tokenizer {
                trainer.discard(tokenizer)?;
            }
        }
        Ok(())
    }

    fn tokenizer(&mut self) -> Result<(&mut ImageTokenizer, &mut TokenizerTrainer)> {
        let model = self.model()?;
        let pair = model.tokenizer.as_mut();
        let (tokenizer, trainer) = pair.ok_or_else(no_tokenizer)?;
        Ok((tokenizer, trainer))
    }

    /// Returns the loaded model for aside requests.
    ///
    /// # Errors
    /// Refuses if no model is loaded.
    pub fn desk(&self) -> Result<AsideDesk<'_>> {
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        Ok(AsideDesk {
            model: model.into(),
            limits: self.limits_for(model, 0),
        })
    }

    /// Returns an empty sampling batch of the loaded model, which other requests may join.
    ///
    /// # Errors
    /// Refuses if no model is loaded.
    pub fn sampling(&self) -> Result<RunningRequests<'_>> {
        // The bytes of the cache on the shelf count as available, because the batch reuses that cache or
        // frees it.
        Ok(self.batch(self.shelf.bytes())?.keeping(&self.shelf))
    }

    /// Returns an empty batch that takes no cache from the shelf. `more` is a number of bytes that it may use
    /// beside the free ones.
    fn batch(&self, more: u64) -> Result<RunningRequests<'_>> {
        let model = self.model.as_ref().ok_or_else(not_loaded)?;
        Ok(RunningRequests::new(model, self.limits_for(model, more)))
    }

    /// Returns how much of the model is computed at one time without gradients; `more` as in [`Self::batch`].
    fn limits_for(&self, model: &LoadedModel, more: u64) -> Limits {
        limits_on(&self.place, self.limits, model.backbone.config(), more)
    }

    /// Returns what a training step works on, and the interlude that may interrupt it.
    fn trained<'a>(
        &'a mut self,
        bystanders: &'a mut dyn Bystanders,
    ) -> Result<(TrainedParts<'a>, AnsweredBetween<'a>)> {
        let LoadedModel {
            backbone,
            optimizer,
            tokenizer,
        } = loaded(&mut self.model)?;
        let between = AnsweredBetween {
            // Sharded weights are gathered block by block during a step, so they are never complete on one
            // rank.
            answers: backbone.parameters().sharded().is_none(),
            bystanders,
            tokenizer: tokenizer.as_ref().map(|(tokenizer, _)| tokenizer),
            step: optimizer.step_count(),
            place: &self.place,
            most: self.limits,
        };
        let parts = TrainedParts {
            backbone,
            optimizer,
            reference: self.reference.as_ref(),
        };
        Ok((parts, between))
    }
}

/// The parts of a model that a training step uses.
struct TrainedParts<'a> {
    backbone: &'a mut Backbone,
    optimizer: &'a mut AdamW,
    reference: Option<&'a Backbone>,
}

fn loaded(model: &mut Option<LoadedModel>) -> Result<&mut LoadedModel> {
    model.as_mut().ok_or_else(not_loaded)
}

fn not_loaded() -> ModelError {
    ModelError::Refused("no model is loaded; send load first".into())
}
