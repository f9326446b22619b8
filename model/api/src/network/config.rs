//! The configurations of the networks: the contents of their `config.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits;

/// The number of rows of LLaDA's embedding.
pub const LLADA_VOCABULARY: usize = 126_464;
/// The number of tokens of LLaDA's tokenizer. The embedding's rows after them are padding, and MMaDA's picture codes
/// begin there (`mmada.md` 0.2).
pub const LLADA_TOKENIZER: u32 = 126_349;

/// The `config.json` of the LLaDA / MMaDA language backbone (`mmada.md` 1.1), with the published field names and
/// defaults. Other fields are ignored. [`published`](crate::network::published) reads a file, and also fills in or
/// refuses fields.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub struct BackboneConfig {
    /// Width of the residual stream, D.
    #[schemars(range(min = 2, max = limits::WIDTH.most))]
    pub d_model: usize,
    /// Number of query heads.
    #[schemars(range(min = 1, max = limits::HEADS.most))]
    pub n_heads: usize,
    /// Number of key and value heads. Absent means as many as query heads.
    #[schemars(range(min = 1, max = limits::HEADS.most))]
    pub n_kv_heads: Option<usize>,
    /// Number of transformer blocks.
    #[schemars(range(min = 1, max = limits::LAYERS.most))]
    pub n_layers: usize,
    /// Width of the gated feed-forward layer. Absent means `mlp_ratio * d_model`.
    #[schemars(range(min = 1, max = limits::HIDDEN.most))]
    pub mlp_hidden_size: Option<usize>,
    /// Width of the feed-forward layer as a multiple of `d_model`, if `mlp_hidden_size` is absent.
    #[schemars(range(min = 1, max = limits::HIDDEN_RATIO.most))]
    pub mlp_ratio: usize,
    /// Epsilon of the RMS norms.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    #[schemars(range(min = 1.0, max = 1000000000000.0))]
    pub rope_theta: f64,
    /// Length of the longest sequence, in tokens.
    #[schemars(range(min = 8, max = limits::POSITIONS.most))]
    pub max_sequence_length: usize,
    /// Whether every linear layer has a bias.
    pub include_bias: bool,
    /// Whether the q, k and v projections have biases; `include_bias` covers them too.
    pub include_qkv_bias: Option<bool>,
    /// Whether the norms have biases.
    pub bias_for_layer_norm: Option<bool>,
    /// Whether q and k are normalised, each over the whole projection.
    pub attention_layer_norm: bool,
    /// Whether the head shares the weights of the embedding.
    pub weight_tying: bool,
    /// Whether logits are divided by the square root of `d_model`.
    pub scale_logits: bool,
    /// Whether the embedding is multiplied by the square root of `d_model`.
    pub input_emb_norm: bool,
    /// Size of the vocabulary.
    #[schemars(range(min = 1, max = limits::VOCABULARY.most))]
    pub vocab_size: usize,
    /// Number of rows of the embedding and the head. Absent means `vocab_size`.
    #[schemars(range(min = 1, max = limits::VOCABULARY.most))]
    pub embedding_size: Option<usize>,
    /// Id of the mask token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub mask_token_id: u32,
    /// Id of the end-of-text token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub eos_token_id: u32,
    /// Id of the padding token.
    #[schemars(range(min = 0, max = limits::TOKEN.most))]
    pub pad_token_id: u32,
    /// Number of picture codes in the vocabulary; 0 for a text model.
    #[schemars(range(min = 0, max = limits::CODEBOOK.most))]
    pub codebook_size: usize,
    /// Token id of the first picture code: the length of the text tokenizer (`mmada.md` 0.2), which is no round number.
    /// Absent means `vocab_size - codebook_size`, or the length of LLaDA's tokenizer if the vocabulary is LLaDA's.
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
    /// Returns the number of key and value heads.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Returns the width of one head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// Returns the width of the gated feed-forward layer.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.mlp_hidden_size
            .unwrap_or_else(|| self.mlp_ratio.saturating_mul(self.d_model))
    }

    /// Returns the number of rows of the embedding, V.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.embedding_size.unwrap_or(self.vocab_size)
    }

    /// Returns the token id of the first picture code.
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

/// The encoder or the decoder of the MAGVIT-v2 tokenizer (`mmada.md` 7.2, 7.3).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct StackConfig {
    /// Number of base channels.
    #[schemars(range(min = 1, max = limits::CHANNELS.most))]
    pub ch: usize,
    /// Channels of each level as a multiple of `ch`; the length of the list is the number of levels.
    #[schemars(length(min = 1, max = limits::LEVELS.most), inner(range(min = 1, max = limits::CHANNEL_MULTIPLE.most)))]
    pub ch_mult: Vec<usize>,
    /// Number of residual blocks of each level.
    #[schemars(length(min = 1, max = limits::LEVELS.most), inner(range(min = 0, max = limits::RESIDUAL_BLOCKS.most)))]
    pub num_res_blocks: Vec<usize>,
    /// Number of channels of the input picture.
    #[serde(default = "three")]
    #[schemars(range(min = 3, max = 3))]
    pub in_ch: usize,
    /// Number of channels of the output picture.
    #[serde(default = "three")]
    #[schemars(range(min = 3, max = 3))]
    pub out_ch: usize,
    /// Side of the training pictures in pixels.
    #[schemars(range(min = 1, max = limits::PIXELS.most))]
    pub resolution: usize,
    /// Number of channels of the latent, which are the bits of a code.
    #[schemars(range(min = 1, max = limits::CODE_BITS.most))]
    pub z_channels: usize,
}

fn three() -> usize {
    3
}

/// Returns the published configuration of a half with these multiples and numbers of blocks.
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

/// The number of bits of a published code.
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

/// The `config.json` of the image tokenizer, MAGVIT-v2 with look-up-free quantisation. The published class takes no
/// arguments, so its file contains no sizes. Missing fields have the published values (`mmada.md` 7.2, 7.3).
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ImageTokenizerConfig {
    /// The encoder, from a picture to the latent.
    #[serde(default = "published_encoder")]
    pub encoder: StackConfig,
    /// The decoder, from the latent to a picture.
    #[serde(default = "published_decoder")]
    pub decoder: StackConfig,
    /// Number of bits of a code; the codebook has `2^codebook_bits` entries.
    #[serde(default = "published_bits")]
    #[schemars(range(min = 1, max = limits::CODE_BITS.most))]
    pub codebook_bits: usize,
    /// Number of groups of the group norms (32 as published; the narrow tokenizer of the tabletop has fewer).
    #[serde(default = "thirty_two")]
    #[schemars(range(min = 1, max = limits::NORM_GROUPS.most))]
    pub norm_groups: usize,
    /// Weights of its losses.
    #[serde(default)]
    pub losses: QuantizerLosses,
}

/// The weights of the losses, besides reconstruction, with which an image tokenizer is trained.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizerLosses {
    /// Weight of the squared distance between a latent and its signs.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub commitment: f64,
    /// Weight of the entropy of each bit, which training lowers so that bits become certain.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub sample_entropy: f64,
    /// Weight of the entropy of the mean bit, which training raises so that bits are used evenly. It does not suit
    /// pictures that are mostly uniform: the code of a uniform patch would then depend on its surroundings.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub batch_entropy: f64,
    /// Number of first steps that pass the tanh of the latents to the decoder instead of their signs. Without them the
    /// codes collapse to a few before the decoder has learnt to use them.
    pub soft_steps: u64,
    /// Weight of the locality loss, by which a code depends on its own patch only; 0 is off. If it is above 0, the
    /// decoder gets the codes of two pictures mixed patch by patch, and must draw the mixed picture. The loss is the
    /// distance between the latents of the mixed picture and the mixed latents. It suits pictures whose patches join
    /// without seams.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub locality: f64,
    /// Number of steps before the locality loss begins. Codes that the decoder does not use yet cannot be mixed.
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
    /// Returns the downscaling factor: the side of a picture divided by the side of its code grid.
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
