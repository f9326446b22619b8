//! A tiny model and its inputs, shared by the tests.
#![allow(dead_code)]

pub mod device;
pub mod rows;
pub mod shards;

use demask_api::{
    Adam, BackboneConfig, ImageTokenizerConfig, PolicyGroup, PolicySample, QuantizerLosses, Sequence, Span,
    StackConfig, StepSettings, Task,
};
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, Parameters};
use tch::{Device, Kind, Tensor};

pub const MASK: u32 = 10;
pub const EOS: u32 = 11;

/// Returns a configuration with a vocabulary of 20: 12 text tokens (10 is the mask token, 11 the end of
/// text), then 8 image tokens. Two query heads share one key/value head.
pub fn config() -> BackboneConfig {
    BackboneConfig {
        d_model: 16,
        n_heads: 2,
        n_kv_heads: Some(1),
        n_layers: 2,
        mlp_hidden_size: Some(24),
        max_sequence_length: 32,
        vocab_size: 20,
        mask_token_id: MASK,
        eos_token_id: EOS,
        pad_token_id: EOS,
        codebook_size: 8,
        ..BackboneConfig::default()
    }
}

/// Returns an image tokenizer of 4 x 4 pixel images with 2 x 2 codes of three bits.
pub fn tokenizer_config() -> ImageTokenizerConfig {
    let stack = StackConfig {
        ch: 4,
        ch_mult: vec![1, 1],
        num_res_blocks: vec![1, 1],
        in_ch: 3,
        out_ch: 3,
        resolution: 4,
        z_channels: 3,
    };
    ImageTokenizerConfig {
        encoder: stack.clone(),
        decoder: stack,
        codebook_bits: 3,
        norm_groups: 2,
        losses: QuantizerLosses::default(),
    }
}

pub fn backbone(seed: u64) -> Backbone {
    Backbone::fresh(&config(), seed, Device::Cpu, Kind::Float).unwrap()
}

/// Returns the backbone of a seed and a fresh optimizer for it.
pub fn learner(seed: u64) -> (Backbone, AdamW) {
    let backbone = backbone(seed);
    let optimizer = AdamW::new(backbone.parameters()).unwrap();
    (backbone, optimizer)
}

pub fn settings(seed: u64) -> StepSettings {
    StepSettings {
        learning_rate: 1e-2,
        clip_norm: 1.0,
        adam: Adam::default(),
        task_weights: [1.0; 4],
        loss_normalization: demask_api::LossNormalization::Sequence,
        recompute: demask_api::Recompute::Auto,
        block_noise: demask_api::BlockNoise::default(),
        seed,
        ema: 0.0,
    }
}

/// Returns a sequence of `left_pad` padding tokens, a prompt of 4 tokens and an answer that ends at `length`.
/// `seed` determines the tokens.
pub fn sequence(seed: u32, length: usize, left_pad: usize) -> Sequence {
    let token = |at: usize| (seed * 7 + at as u32 * 3) % 10;
    let ids = (0..length).map(|at| if at < left_pad { EOS } else { token(at) });
    Sequence {
        id: format!("row-{seed}"),
        task: Task::Text,
        ids: ids.collect(),
        left_pad,
        answer: vec![Span {
            start: left_pad + 4,
            end: length,
        }],
    }
}

/// Returns five sequences of different lengths and paddings.
pub fn ragged() -> Vec<Sequence> {
    [(1, 12, 0), (2, 16, 3), (3, 9, 2), (4, 28, 0), (5, 14, 1)]
        .map(|(seed, length, pad)| sequence(seed, length, pad))
        .to_vec()
}

/// Returns one group of the sequences of [`ragged`] with the given advantages.
pub fn group(advantages: &[f32]) -> PolicyGroup {
    let sample = |(sequence, &advantage): (Sequence, &f32)| PolicySample {
        commit_step: (0..sequence.answer_len() as u16).map(|at| at * 7 % 11).collect(),
        sequence,
        advantage,
    };
    PolicyGroup {
        id: "group".into(),
        samples: ragged().into_iter().zip(advantages).map(sample).collect(),
    }
}

/// Returns everything that a training step may change: weights, moments, moving average and step count.
pub fn state(parameters: &Parameters, optimizer: &AdamW) -> Vec<(String, Vec<f64>)> {
    let mut all = optimizer.state("state").unwrap();
    all.insert("weights".into(), parameters.master().shallow_clone());
    all.into_iter()
        .map(|(name, tensor)| (name, numbers(&tensor)))
        .collect()
}

pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double).reshape([-1])).unwrap()
}
