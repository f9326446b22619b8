//! The network that is measured and its inputs: the published 8B shape with random weights, or a tiny shape.

use demask_api::{
    BackboneConfig, Commit, End, ImageSampler, SampleRequest, Sampler, Sequence, Span, StepSettings,
    TextCache, TextSampler, published,
};

use demask_model::Backbone;

use crate::options::Options;
use crate::sizes;

/// Sizes of the network and of its inputs.
pub struct Shape {
    /// Configuration of the network.
    pub config: BackboneConfig,
    /// Tokens of a full forward pass, and of a row with a cached context.
    pub context: usize,
    /// Positions of a block.
    pub block: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub answer: usize,
    /// Codes of an image of 512 x 512 pixels.
    pub codes: usize,
    /// Sampling steps of an image.
    pub steps: usize,
    /// Rows of a training step.
    pub rows: usize,
    /// Tokens of the row in a training step with a single long row.
    pub long: usize,
    /// Rows of a training step of all weights: enough that the optimizer's update is a small part of it.
    pub many: usize,
}

impl Shape {
    /// Returns the shape that the options select.
    ///
    /// # Errors
    /// Returns an error only if the built-in configuration is invalid.
    pub fn of(options: &Options) -> anyhow::Result<Self> {
        if options.small {
            return Ok(Self::tiny());
        }
        let mut config = published::read(r#"{"model_type": "mmada"}"#)?;
        config.n_layers = options.layers.unwrap_or(config.n_layers);
        config.max_sequence_length = 4096;
        Ok(Self {
            config,
            context: 1024,
            block: 32,
            prompt: 128,
            answer: 256,
            codes: 1024,
            steps: 15,
            rows: 8,
            long: 4096,
            many: 32,
        })
    }

    fn tiny() -> Self {
        let config = BackboneConfig {
            d_model: 64,
            n_heads: 2,
            n_layers: 2,
            mlp_hidden_size: Some(96),
            max_sequence_length: 256,
            vocab_size: 320,
            mask_token_id: 250,
            eos_token_id: 251,
            pad_token_id: 251,
            codebook_size: 64,
            ..BackboneConfig::default()
        };
        Self {
            config,
            context: 64,
            block: 8,
            prompt: 16,
            answer: 16,
            codes: 16,
            steps: 3,
            rows: 2,
            long: 128,
            many: 8,
        }
    }

    /// Returns the number of ordinary tokens that rows may consist of, none of them special.
    pub fn words(config: &BackboneConfig) -> usize {
        config.image_offset() as usize * 3 / 4
    }

    /// Returns the configuration for full training of one block: the block's widths, and a vocabulary so
    /// small that the block dominates the time.
    pub fn block_alone(&self) -> BackboneConfig {
        let words = (self.config.image_offset() as usize).min(1024);
        BackboneConfig {
            n_layers: 1,
            vocab_size: words,
            embedding_size: None,
            codebook_size: 0,
            image_token_offset: None,
            mask_token_id: words as u32 - 1,
            eos_token_id: words as u32 - 2,
            pad_token_id: words as u32 - 2,
            ..self.config.clone()
        }
    }

    /// Returns a request for one block at the end of the context: a full forward pass, then passes over the
    /// block alone, one per step.
    pub fn cached_block(&self, steps: usize) -> SampleRequest {
        let sampler = TextSampler {
            steps,
            block: self.block,
            commit: Commit::Schedule,
            cache: TextCache::Prefix,
            end: End::Never,
            ..TextSampler::default()
        };
        self.request(self.context - self.block, self.block, Sampler::Text(sampler))
    }

    /// Returns a request for a text of many blocks with Fast-dLLM's settings for GSM8K. Prompts of different
    /// rows differ in length.
    pub fn text(&self, row: usize) -> SampleRequest {
        let sampler = TextSampler {
            steps: self.answer,
            block: self.block,
            commit: Commit::Threshold { threshold: 0.9 },
            cache: TextCache::Dual {
                refresh: 1,
                vicinity: 0,
            },
            end: End::Never,
            ..TextSampler::default()
        };
        let prompt = self.prompt - row * 7 % (self.prompt / 4);
        SampleRequest {
            id: row as u64,
            ..self.request(prompt, self.answer, Sampler::Text(sampler))
        }
    }

    /// Returns a request for an image with guidance.
    pub fn picture(&self) -> SampleRequest {
        let sampler = ImageSampler {
            steps: self.steps,
            guidance: 2.0,
            ..ImageSampler::default()
        };
        self.request(self.prompt, self.codes, Sampler::Image(sampler))
    }

    fn request(&self, prompt: usize, target: usize, sampler: Sampler) -> SampleRequest {
        let ids = (0..prompt as u32).chain(std::iter::repeat_n(self.config.mask_token_id, target));
        SampleRequest {
            id: 1,
            ids: ids.collect(),
            left_pad: 0,
            target: Span {
                start: prompt,
                end: prompt + target,
            },
            sampler,
            grid: None,
            unconditional: None,
            unconditional_left_pad: 0,
            seed: 1,
            watch: false,
        }
    }
}

/// Returns training rows of one length that consist of an answer only.
pub fn rows(count: usize, length: usize, words: usize) -> Vec<Sequence> {
    sizes::rows(count, length, words, 0)
}

/// Returns ordinary training settings.
pub fn settings(seed: u64) -> StepSettings {
    StepSettings {
        learning_rate: 1e-4,
        clip_norm: 1.0,
        adam: demask_api::Adam::default(),
        task_weights: [1.0; 4],
        loss_normalization: demask_api::LossNormalization::Sequence,
        recompute: demask_api::Recompute::Auto,
        block_noise: demask_api::BlockNoise::default(),
        seed,
        ema: 0.0,
    }
}

/// Creates a network of random weights on the selected device.
///
/// # Errors
/// Returns an error if the device does not exist or has too little memory.
pub fn network(options: &Options) -> anyhow::Result<(Shape, Backbone)> {
    let place = options.place("auto")?;
    let shape = Shape::of(options)?;
    let backbone = Backbone::random(&shape.config, 1, place.device, place.kind)?;
    Ok((shape, backbone))
}
