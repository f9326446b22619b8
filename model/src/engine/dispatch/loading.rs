//! What an engine loads: a model, a reference policy and reward networks. A load that fails leaves what was there.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use demask_api::{Answer, LoadOptions, ModelSource, Shard, checkpoint};

use super::Engine;
use crate::engine::checkpoint::{LoadedModel, check_manifest, load_backbone};
use crate::engine::validation;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::network::backbone::Backbone;
use crate::reward_networks::RewardNetworks;
use crate::training::optimizer::AdamW;
use crate::weights::shards::RankOf;

impl Engine {
    /// Loads a model in place of the present one, which stays if that fails.
    pub(super) fn load(&mut self, source: ModelSource) -> Result<Answer> {
        // The cache on the shelf belongs to the network that is replaced.
        self.shelf.clear_beyond(0);
        let model = match self.world.clone() {
            None => self.read(source)?,
            Some((world, options)) => world.patiently(|| {
                let mut model = world.agree(self.read(source))?;
                if model.backbone.trained().trainable().is_ok() {
                    model.share(&world, options.reduction)?;
                    if options.shard == Shard::Weights && model.backbone.parameters().sharded().is_none() {
                        tracing::warn!(
                            "--shard weights: quantised weights below an adapter and weights with a merged adapter cannot be sharded; every rank has all of them, and only the optimizer state is sharded"
                        );
                    }
                }
                Ok(model)
            })?,
        };
        let answer = Answer::Loaded {
            step: model.optimizer.step_count(),
            parameters: model.backbone.count(),
            backbone: Some(model.backbone.config().clone()),
            image_tokenizer: model.tokenizer.is_some(),
        };
        // The model is replaced last, so that a load that fails leaves the engine as it was. The old
        // reference policy belongs to the old model.
        self.reference = None;
        self.model = Some(model);
        Ok(answer)
    }

    /// Reads a checkpoint, or initialises a fresh model.
    fn read(&self, source: ModelSource) -> Result<LoadedModel> {
        let (device, kind) = (self.place.device, self.place.kind);
        let model = match source {
            ModelSource::Fresh {
                backbone,
                image_tokenizer,
                image_tokenizer_from,
                seed,
            } => {
                let backbone = Backbone::fresh_on(&backbone, seed, (device, kind), self.part())?;
                let optimizer = AdamW::new(backbone.parameters())?;
                let tokenizer = match (image_tokenizer_from, image_tokenizer) {
                    (Some(dir), _) => Some(ImageTokenizer::load(
                        &dir.join(checkpoint::IMAGE_TOKENIZER),
                        device,
                    )?),
                    (None, Some(config)) => Some(ImageTokenizer::fresh(&config, seed, device)?),
                    (None, None) => None,
                };
                let tokenizer = tokenizer
                    .map(|tokenizer| TokenizerTrainer::new(&tokenizer).map(|trainer| (tokenizer, trainer)))
                    .transpose()?;
                LoadedModel {
                    backbone,
                    optimizer,
                    tokenizer,
                }
            }
            ModelSource::Checkpoint {
                dir,
                resume,
                average,
                image_tokenizer,
                options,
            } => {
                let mut model = LoadedModel::load_on(&dir, resume, &options, (device, kind), self.part())?;
                if average {
                    model.take_average(&dir, resume)?;
                }
                if let Some(folder) = image_tokenizer {
                    let tokenizer = ImageTokenizer::load_for(&folder, device, options.purpose)?;
                    let trainer = TokenizerTrainer::new(&tokenizer)?;
                    model.tokenizer = Some((tokenizer, trainer));
                }
                model
            }
        };
        validation::config(model.backbone.config())?;
        Ok(model)
    }

    /// Returns which shard of the weights this rank keeps, if the weights are sharded.
    fn part(&self) -> Option<RankOf> {
        let (world, options) = self.world.as_ref()?;
        let (rank, size) = (world.rank(), world.size());
        (options.shard == Shard::Weights).then_some(RankOf { rank, size })
    }

    /// Sets the frozen reference policy to a checkpoint's weights or to the present ones.
    pub(super) fn set_reference(&mut self, checkpoint: Option<&Path>) -> Result<Answer> {
        let world = self.world.as_ref().map(|(world, _)| Rc::clone(world));
        // Each rank scores with a reference of its own: all have the new one, or all keep the one before.
        let reference = match world {
            None => self.made_reference(checkpoint)?,
            Some(world) => world.patiently(|| world.agree(self.made_reference(checkpoint)))?,
        };
        self.reference = Some(reference);
        Ok(Answer::Done)
    }

    fn made_reference(&mut self, checkpoint: Option<&Path>) -> Result<Backbone> {
        let (device, kind) = (self.place.device, self.place.kind);
        let LoadedModel {
            backbone: present,
            optimizer,
            ..
        } = self.model()?;
        let Some(dir) = checkpoint else {
            // Frozen weights below an adapter stay sharded: the reference has the same ones.
            let share = optimizer.share().filter(|share| share.is_of_weights());
            share.map_or(Ok(()), |share| share.bring_together(present.parameters(), true))?;
            let frozen = present.frozen_copy();
            share.map_or(Ok(()), |share| share.let_go(present.parameters()))?;
            return frozen;
        };
        check_manifest(dir)?;
        let loaded = load_backbone(dir, &LoadOptions::sampling(), (device, kind), None)?;
        if loaded.config() != present.config() {
            return Err(ModelError::checkpoint(
                dir,
                "a reference policy must have the shape of the loaded model",
            ));
        }
        Ok(loaded)
    }

    /// Loads these reward networks in place of the present ones, which stay if they are the same.
    pub(super) fn load_reward(
        &mut self,
        clip: Option<PathBuf>,
        image_reward: Option<PathBuf>,
    ) -> Result<Answer> {
        let kept = |rewards: &RewardNetworks| rewards.are_of(clip.as_deref(), image_reward.as_deref());
        if clip.is_none() && image_reward.is_none() {
            self.rewards = None;
        } else if !self.rewards.as_ref().is_some_and(kept) {
            self.rewards = Some(RewardNetworks::load(clip, image_reward, self.place.device)?);
        }
        let parameters = self.rewards.as_ref().map_or(0, RewardNetworks::parameters);
        Ok(Answer::RewardLoaded { parameters })
    }
}
