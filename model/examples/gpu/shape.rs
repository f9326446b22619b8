//! The network that is measured, and what it is asked: the published 8B shape with random weights, or a tiny one.

use demask_api::{
    BackboneConfig, Commit, End, ImageSampler, SampleRequest, Sampler, Sequence, Span, StepSettings,
    TextCache, TextSampler, published,
};

use demask_model::Backbone;

use crate::options::Options;
use crate::sizes;

/// Sizes.
pub struct Shape {
    /// The network.
    pub config: BackboneConfig,
    /// Tokens of a whole pass and of a cached row.
    pub context: usize,
    /// Positions of a block.
    pub block: usize,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub answer: usize,
    /// Codes of a picture: 512 x 512 pixels.
    pub codes: usize,
    /// Steps of a picture.
    pub steps: usize,
    /// Rows of a training step.
    pub rows: usize,
    /// Tokens of a long row of one.
    pub long: usize,
}

impl Shape {
    /// What the options ask for.
    ///
    /// # Errors
    /// A fault of this program.
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
        }
    }

    /// Words that rows may be made of, none of them special.
    pub fn words(config: &BackboneConfig) -> usize {
        config.image_offset() as usize * 3 / 4
    }

    /// A block's full training: its widths, and so few words that the block is what is measured.
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

    /// One block at the end of the context: a whole pass, then passes of the block alone, a step each.
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

    /// A text of many blocks as Fast-dLLM samples GSM8K; the prompts of rows are not of one length.
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

    /// A guided picture.
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

/// Rows to train on, all of one length, all of it answer.
pub fn rows(count: usize, length: usize, words: usize) -> Vec<Sequence> {
    sizes::rows(count, length, words, 0)
}

/// A step like any other.
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

/// Random weights of a shape on the device that was asked for.
///
/// # Errors
/// No such device, no memory.
pub fn network(options: &Options) -> anyhow::Result<(Shape, Backbone)> {
    let place = options.place("auto")?;
    let shape = Shape::of(options)?;
    let backbone = Backbone::random(&shape.config, 1, place.device, place.kind)?;
    Ok((shape, backbone))
}
