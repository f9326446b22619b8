//! The shapes of the networks, as their `config.json` has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Rows of LLaDA's embedding.
pub const LLADA_VOCABULARY: usize = 126_464;
/// Tokens of LLaDA's tokenizer: the rows behind them are padding, where MMaDA's picture codes begin (`mmada.md` 0.2).
pub const LLADA_TOKENIZER: u32 = 126_349;

/// The LLaDA / MMaDA language backbone's `config.json` (`mmada.md` 1.1). Field names and defaults are the published
/// ones; fields that are not here are ignored. A file is read by [`published`](crate::network::published), which knows more.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct BackboneConfig {
    /// Width of the residual stream, D.
    #[schemars(range(min = 2, max = limits::WIDTH.most))]
    pub d_model: usize,
    /// Query heads.
    #[schemars(range(min = 1, max = limits::HEADS.most))]
    pub n_heads: usize,
    /// Key and value heads; absent means as many as query heads.
    #[schemars(range(min = 1, max = limits::HEADS.most))]
    pub n_kv_heads: Option<usize>,
    /// Blocks.
    #[schemars(range(min = 1, max = limits::LAYERS.most))]
    pub n_layers: usize,
    /// Width of the gated feed-forward; absent means `mlp_ratio * d_model`.
    #[schemars(range(min = 1, max = limits::HIDDEN.most))]
    pub mlp_hidden_size: Option<usize>,
    /// Used when `mlp_hidden_size` is absent.
    #[schemars(range(min = 1, max = limits::HIDDEN_RATIO.most))]
    pub mlp_ratio: usize,
    /// Epsilon of the RMS norms.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    #[schemars(range(min = 1.0, max = 1000000000000.0))]
    pub rope_theta: f64,
    /// Longest sequence that the model is meant for.
    #[schemars(range(min = 8, max = limits::POSITIONS.most))]
    pub max_sequence_length: usize,
    /// Biases on every linear layer.
    pub include_bias: bool,
    /// Biases on the q, k and v projections; `include_bias` means them too.
    pub include_qkv_bias: Option<bool>,
    /// Bias in the norms.
    pub bias_for_layer_norm: Option<bool>,
    /// Norms on q and k (over the whole projection).
    pub attention_layer_norm: bool,
    /// The head is the embedding.
    pub weight_tying: bool,
    /// Logits are divided by the square root of `d_model`.
    pub scale_logits: bool,
    /// The embedding is multiplied by the square root of `d_model`.
    pub input_emb_norm: bool,
    /// Rows of the vocabulary.
    #[schemars(range(min = 1, max = limits::VOCABULARY.most))]
    pub vocab_size: usize,
    /// Rows of the embedding and the head; absent means `vocab_size`.
    #[schemars(range(min = 1, max = limits::VOCABULARY.most))]
    pub embedding_size: Option<usize>,
    /// The mask token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub mask_token_id: u32,
    /// The end-of-text token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub eos_token_id: u32,
    /// The padding token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub pad_token_id: u32,
    /// Picture codes in the vocabulary; 0 when the model knows no pictures.
    #[schemars(range(min = 0, max = limits::CODEBOOK.most))]
    pub codebook_size: usize,
    /// The first picture code's token id: the length of the text tokenizer (`mmada.md` 0.2), not a round number.
    /// Absent means `vocab_size - codebook_size`, and LLaDA's tokenizer's length where that is LLaDA's vocabulary.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub image_token_offset: Option<u32>,
}

impl Default for BackboneConfig {
    fn default() -> Self {
        Self {
            d_model: 4096,
            n_heads: 32,
            n_kv_heads: None,
            n_layers: 32,
            mlp_hidden_size: None,
            mlp_ratio: 4,
            rms_norm_eps: 1e-5,
            rope_theta: 500_000.0,
            max_sequence_length: 4096,
            include_bias: false,
            include_qkv_bias: None,
            bias_for_layer_norm: None,
            attention_layer_norm: false,
            weight_tying: false,
            scale_logits: false,
            input_emb_norm: false,
            vocab_size: 134_656,
            embedding_size: None,
            mask_token_id: 126_336,
            eos_token_id: 126_081,
            pad_token_id: 126_081,
            codebook_size: 8192,
            image_token_offset: None,
        }
    }
}

impl BackboneConfig {
    /// Key and value heads.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// Width of the gated feed-forward.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.mlp_hidden_size
            .unwrap_or_else(|| self.mlp_ratio.saturating_mul(self.d_model))
    }

    /// Rows of the embedding, V.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.embedding_size.unwrap_or(self.vocab_size)
    }

    /// The first picture code's token id.
    #[must_use]
    pub fn image_offset(&self) -> u32 {
        self.image_token_offset
            .unwrap_or_else(|| match self.rows().saturating_sub(self.codebook_size) {
                LLADA_VOCABULARY if self.codebook_size > 0 => LLADA_TOKENIZER,
                _ => {
                    let fallback = self.vocab_size.saturating_sub(self.codebook_size);
                    u32::try_from(fallback).unwrap_or(u32::MAX)
                }
            })
    }
}

/// One half of the MAGVIT-v2 tokenizer (`mmada.md` 7.2, 7.3).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct StackConfig {
    /// Base channels.
    #[schemars(range(min = 1, max = limits::CHANNELS.most))]
    pub ch: usize,
    /// Channel multiple a level; the number of levels.
    #[schemars(length(min = 1, max = limits::LEVELS.most), inner(range(min = 1, max = limits::CHANNEL_MULTIPLE.most)))]
    pub ch_mult: Vec<usize>,
    /// Residual blocks a level.
    #[schemars(length(min = 1, max = limits::LEVELS.most), inner(range(min = 0, max = limits::RESIDUAL_BLOCKS.most)))]
    pub num_res_blocks: Vec<usize>,
    /// Picture channels in.
    #[serde(default = "three")]
    #[schemars(range(min = 3, max = 3))]
    pub in_ch: usize,
    /// Picture channels out.
    #[serde(default = "three")]
    #[schemars(range(min = 3, max = 3))]
    pub out_ch: usize,
    /// Side of the training pictures in pixels.
    #[schemars(range(min = 1, max = limits::PIXELS.most))]
    pub resolution: usize,
    /// Channels of the latent: the bits of a code.
    #[schemars(range(min = 1, max = limits::CODE_BITS.most))]
    pub z_channels: usize,
}

fn three() -> usize {
    3
}

/// The published encoder, and its decoder.
fn published(ch_mult: [usize; 5], num_res_blocks: [usize; 5]) -> StackConfig {
    StackConfig {
        ch: 128,
        ch_mult: ch_mult.to_vec(),
        num_res_blocks: num_res_blocks.to_vec(),
        in_ch: 3,
        out_ch: 3,
        resolution: 256,
        z_channels: PUBLISHED_BITS,
    }
}

/// Bits of a published code.
const PUBLISHED_BITS: usize = 13;

fn published_encoder() -> StackConfig {
    published([1, 2, 2, 4, 4], [4, 3, 4, 3, 4])
}

fn published_decoder() -> StackConfig {
    published([1, 1, 2, 2, 4], [4, 4, 3, 4, 3])
}

fn published_bits() -> usize {
    PUBLISHED_BITS
}

/// The image tokenizer's `config.json`: MAGVIT-v2 with look-up-free quantisation. The published class takes no arguments, so
/// that its file says nothing of shapes: what is missing is the published shape (`mmada.md` 7.2, 7.3).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ImageTokenizerConfig {
    /// Picture to latent.
    #[serde(default = "published_encoder")]
    pub encoder: StackConfig,
    /// Latent to picture.
    #[serde(default = "published_decoder")]
    pub decoder: StackConfig,
    /// Bits of a code; the codebook has `2^codebook_bits` entries.
    #[serde(default = "published_bits")]
    #[schemars(range(min = 1, max = limits::CODE_BITS.most))]
    pub codebook_bits: usize,
    /// Groups of the group norms (32 as published; the tabletop's narrow one uses fewer).
    #[serde(default = "thirty_two")]
    #[schemars(range(min = 1, max = limits::NORM_GROUPS.most))]
    pub norm_groups: usize,
    /// The weights of its losses.
    #[serde(default)]
    pub losses: QuantizerLosses,
}

/// Weights of the losses beside reconstruction, when an image tokenizer is trained.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizerLosses {
    /// Squared distance of a latent from its signs.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub commitment: f64,
    /// Entropy of each bit: how unsure it is.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub sample_entropy: f64,
    /// Entropy of the mean bit, which grows: bits that are used evenly. Not for pictures that are mostly one thing, whose
    /// code then depends on all around it.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub batch_entropy: f64,
    /// Steps at the start that pass tanh of the latents instead of their signs: without them the codes collapse to a few
    /// before the decoder has learnt to read any.
    pub soft_steps: u64,
    /// Whether a code stands for its own patch alone. When it is above 0 the decoder is given codes of two pictures mixed
    /// patch by patch and must draw the pictures so mixed, and this weighs how far the latents of the mixed picture are from
    /// the latents mixed. For pictures whose patches have no seams between them.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub locality: f64,
    /// Steps before that begins: codes that nothing is read from yet cannot be mixed.
    pub local_from: u64,
}

impl Default for QuantizerLosses {
    fn default() -> Self {
        Self {
            commitment: 0.005,
            sample_entropy: 0.005,
            batch_entropy: 0.005,
            soft_steps: 400,
            locality: 0.0,
            local_from: 0,
        }
    }
}

fn thirty_two() -> usize {
    32
}

impl ImageTokenizerConfig {
    /// How many times smaller a side of the code grid is than a side of the picture.
    #[must_use]
    pub fn downscale(&self) -> usize {
        let halvings = self.encoder.ch_mult.len().saturating_sub(1);
        2_usize.saturating_pow(u32::try_from(halvings).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_published_image_tokenizer_says_nothing_of_its_shape() {
        let config: ImageTokenizerConfig = serde_json::from_str(r#"{"_class_name": "MAGVITv2"}"#).unwrap();
        assert_eq!(config.downscale(), 16);
        assert_eq!((config.codebook_bits, config.norm_groups), (13, 32));
        assert_eq!(config.encoder.num_res_blocks, [4, 3, 4, 3, 4]);
        assert_eq!(config.decoder.ch_mult, [1, 1, 2, 2, 4]);
    }
}
