//! CLIP (arXiv 2103.00020), as in Hugging Face's transformers: it embeds pictures and texts in a common space.
//!
//! Legend: B rows, C channels, P side of a picture in pixels, L text positions, D width of a tower, E projection.

#![allow(non_snake_case)]

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::frozen::{
    Frozen, Shape, attend, check_patches, check_pixels, check_shape, linear_shapes, norm_shapes, read_config,
};
use crate::error::Result;
use crate::network::attention_mask::SHUT;

/// The `config.json` of a CLIP model, with the published field names and defaults. Other fields are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "PublishedClip")]
pub struct ClipConfig {
    /// The width of the common space, E.
    pub projection_dim: usize,
    /// The text tower.
    pub text: ClipTextConfig,
    /// The picture tower.
    pub vision: ClipVisionConfig,
}

/// The file's own layout. Older files contain each tower a second time, and then that one counts.
#[derive(Deserialize)]
struct PublishedClip {
    #[serde(default = "five_hundred_twelve")]
    projection_dim: usize,
    #[serde(default)]
    text_config: ClipTextConfig,
    #[serde(default)]
    vision_config: ClipVisionConfig,
    text_config_dict: Option<ClipTextConfig>,
    vision_config_dict: Option<ClipVisionConfig>,
}

fn five_hundred_twelve() -> usize {
    512
}

impl From<PublishedClip> for ClipConfig {
    fn from(published: PublishedClip) -> Self {
        Self {
            projection_dim: published.projection_dim,
            text: published.text_config_dict.unwrap_or(published.text_config),
            vision: published.vision_config_dict.unwrap_or(published.vision_config),
        }
    }
}

/// The configuration of the text tower.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// The size of the vocabulary.
    pub vocab_size: usize,
    /// The width of the hidden states, D.
    pub hidden_size: usize,
    /// The width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of attention heads.
    pub num_attention_heads: usize,
    /// The length of the longest text, in tokens.
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// The epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The end-of-text token, at whose first position the text's embedding is taken. The value 2 keeps its meaning from
    /// before the published configurations were corrected: the position of the highest id.
    pub eos_token_id: i64,
    /// The token that pads a batch.
    pub pad_token_id: i64,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49_407,
            pad_token_id: 1,
        }
    }
}

/// The configuration of the picture tower.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// The width of the hidden states, D.
    pub hidden_size: usize,
    /// The width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of attention heads.
    pub num_attention_heads: usize,
    /// The number of channels of a picture, C.
    pub num_channels: usize,
    /// The side of a picture in pixels, P.
    pub image_size: usize,
    /// The side of a patch in pixels.
    pub patch_size: usize,
    /// The activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// The epsilon of the layer norms.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

/// An activation function, by its name in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(1.702 x), OpenAI's approximation.
    QuickGelu,
    /// GELU with the error function.
    Gelu,
    /// GELU with the hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluNew,
    /// max(x, 0).
    Relu,
    /// x · sigmoid(x).
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Self::Gelu => x.f_gelu("none")?,
            Self::GeluNew => x.f_gelu("tanh")?,
            Self::Relu => x.f_relu()?,
            Self::Silu => x.f_silu()?,
        })
    }
}

/// The transformer blocks of a tower. Both towers have the same kind of block.
#[derive(Clone, Copy)]
struct Blocks<'a> {
    prefix: &'a str,
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    activation: Activation,
    eps: f64,
}

impl Blocks<'_> {
    fn shapes(self, shapes: &mut Vec<Shape>) {
        for layer in 0..self.layers {
            let name = format!("{}.encoder.layers.{layer}", self.prefix);
            norm_shapes(shapes, &format!("{name}.layer_norm1"), self.width);
            norm_shapes(shapes, &format!("{name}.layer_norm2"), self.width);
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                linear_shapes(
                    shapes,
                    &format!("{name}.self_attn.{part}"),
                    self.width,
                    self.width,
                );
            }
            linear_shapes(shapes, &format!("{name}.mlp.fc1"), self.width, self.inner);
            linear_shapes(shapes, &format!("{name}.mlp.fc2"), self.inner, self.width);
        }
    }

    /// Runs the blocks, [B, L, D] to [B, L, D]. They are pre-norm blocks.
    fn run(self, net: &Frozen, x: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let mut x = x;
        for layer in 0..self.layers {
            let name = format!("{}.encoder.layers.{layer}", self.prefix);
            let h = net.norm(&x, &format!("{name}.layer_norm1"), self.eps)?;
            let part = |part: &str| net.linear(&h, &format!("{name}.self_attn.{part}"));
            let mixed = attend(
                &part("q_proj")?,
                &part("k_proj")?,
                &part("v_proj")?,
                self.heads as i64,
                bias,
            )?;
            x = x.f_add(&net.linear(&mixed, &format!("{name}.self_attn.out_proj"))?)?;
            let h = net.norm(&x, &format!("{name}.layer_norm2"), self.eps)?;
            let h = self
                .activation
                .apply(&net.linear(&h, &format!("{name}.mlp.fc1"))?)?;
            x = x.f_add(&net.linear(&h, &format!("{name}.mlp.fc2"))?)?;
        }
        Ok(x)
    }
}

impl ClipConfig {
    fn text_blocks(&self) -> Blocks<'_> {
        let text = &self.text;
        Blocks {
            prefix: "text_model",
            width: text.hidden_size,
            inner: text.intermediate_size,
            layers: text.num_hidden_layers,
            heads: text.num_attention_heads,
            activation: text.hidden_act,
            eps: text.layer_norm_eps,
        }
    }

    fn vision_blocks(&self) -> Blocks<'_> {
        let vision = &self.vision;
        Blocks {
            prefix: "vision_model",
            width: vision.hidden_size,
            inner: vision.intermediate_size,
            layers: vision.num_hidden_layers,
            heads: vision.num_attention_heads,
            activation: vision.hidden_act,
            eps: vision.layer_norm_eps,
        }
    }

    fn check(&self, path: &Path) -> Result<()> {
        for (tower, blocks) in [
            ("text_config", self.text_blocks()),
            ("vision_config", self.vision_blocks()),
        ] {
            check_shape(path, tower, blocks.width, blocks.heads, blocks.layers)?;
        }
        check_patches(path, self.vision.image_size, self.vision.patch_size)
    }

    fn shapes(&self) -> Vec<Shape> {
        let (text, vision) = (&self.text, &self.vision);
        let (D, E) = (vision.hidden_size as i64, self.projection_dim as i64);
        let patch = vision.patch_size as i64;
        let patches = (vision.image_size / vision.patch_size).pow(2) as i64;
        let rows = |rows: usize| vec![rows as i64, text.hidden_size as i64];
        let embeddings = "vision_model.embeddings";
        let mut shapes: Vec<Shape> = vec![
            ("logit_scale".into(), vec![]),
            ("text_projection.weight".into(), vec![E, text.hidden_size as i64]),
            ("visual_projection.weight".into(), vec![E, D]),
            (TOKENS.into(), rows(text.vocab_size)),
            (POSITIONS.into(), rows(text.max_position_embeddings)),
            (format!("{embeddings}.class_embedding"), vec![D]),
            (
                format!("{embeddings}.position_embedding.weight"),
                vec![patches + 1, D],
            ),
            (
                format!("{embeddings}.patch_embedding.weight"),
                vec![D, vision.num_channels as i64, patch, patch],
            ),
        ];
        norm_shapes(&mut shapes, "text_model.final_layer_norm", text.hidden_size);
        // The name is misspelt in every published checkpoint.
        norm_shapes(&mut shapes, "vision_model.pre_layrnorm", vision.hidden_size);
        norm_shapes(&mut shapes, "vision_model.post_layernorm", vision.hidden_size);
        self.text_blocks().shapes(&mut shapes);
        self.vision_blocks().shapes(&mut shapes);
        shapes
    }
}

const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// A CLIP network.
#[derive(Debug)]
pub struct Clip {
    config: ClipConfig,
    net: Frozen,
}

impl Clip {
    /// Loads `config.json` and `model.safetensors` of a folder. Tensors have the published names and any floating-point
    /// dtype; the network computes in f32.
    ///
    /// # Errors
    /// [`ModelError::Io`](crate::ModelError::Io) if a file cannot be read.
    /// [`ModelError::Checkpoint`](crate::ModelError::Checkpoint) if a file is broken or a tensor is missing, extra or
    /// misshapen. Any error libtorch reports.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        let path = dir.join(demask_api::checkpoint::CONFIG);
        let config: ClipConfig = read_config(&path, "CLIP")?;
        config.check(&path)?;
        // Older checkpoints contain the constant positions 0, 1, 2, … of each tower.
        let ignored = |name: &str| name.ends_with(".position_ids");
        let net = Frozen::load(dir, config.shapes(), ignored, device)?;
        Ok(Self { config, net })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.net.count()
    }

    /// Embeds normalised pixels, [B, C, P, P], as vectors of length 1, [B, E].
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::ModelError::Refused) if the pixels have another shape, or any error libtorch
    /// reports.
    pub fn image_embeds(&self, pixels: &Tensor) -> Result<Tensor> {
        let vision = &self.config.vision;
        check_pixels(pixels, vision.num_channels, vision.image_size)?;
        let pixels = pixels.f_to_device(self.net.device())?.f_to_kind(Kind::Float)?;
        let embeddings = "vision_model.embeddings";
        let patches = self.net.patches(
            &pixels,
            &format!("{embeddings}.patch_embedding"),
            vision.patch_size as i64,
        )?;
        let (batch, _, width) = patches.size3()?;
        let class = self.net.tensor(&format!("{embeddings}.class_embedding"))?;
        let class = class.f_expand([batch, 1, width], false)?;
        let positions = self
            .net
            .tensor(&format!("{embeddings}.position_embedding.weight"))?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(positions)?;
        let x = self
            .net
            .norm(&x, "vision_model.pre_layrnorm", vision.layer_norm_eps)?;
        let x = self.config.vision_blocks().run(&self.net, x, None)?;
        let pooled = self.net.norm(
            &x.f_select(1, 0)?,
            "vision_model.post_layernorm",
            vision.layer_norm_eps,
        )?;
        unit(&self.net.linear(&pooled, "visual_projection")?)
    }

    /// Embeds texts as vectors of length 1, [B, E], from token ids, [B, L], and their attention mask `real`, [B, L].
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::ModelError::Refused) if a text is too long or an id is outside the vocabulary, or
    /// any error libtorch reports.
    pub fn text_embeds(&self, ids: &Tensor, real: &Tensor) -> Result<Tensor> {
        let text = &self.config.text;
        let x = self.net.embed(ids, TOKENS, POSITIONS)?;
        let bias = causal(&real.f_to_device(self.net.device())?)?;
        let x = self.config.text_blocks().run(&self.net, x, Some(&bias))?;
        let x = self
            .net
            .norm(&x, "text_model.final_layer_norm", text.layer_norm_eps)?;
        let ends = self.ends(ids)?;
        let rows: Vec<Tensor> = ends
            .iter()
            .enumerate()
            .map(|(row, &end)| x.f_select(0, row as i64)?.f_select(0, end))
            .collect::<Result<_, _>>()?;
        unit(&self.net.linear(&Tensor::f_stack(&rows, 0)?, "text_projection")?)
    }

    /// Returns the position at which each text's embedding is taken: the first end-of-text token, or position 0 if
    /// there is none.
    fn ends(&self, ids: &Tensor) -> Result<Vec<i64>> {
        let ids = ids.f_to_device(Device::Cpu)?.f_to_kind(Kind::Int64)?;
        let (_, length) = ids.size2()?;
        let flat: Vec<i64> = Vec::<i64>::try_from(ids.f_reshape([-1])?)?;
        let rows = flat.chunks(usize::try_from(length).unwrap_or(1).max(1));
        let ends = rows.map(|row| {
            let wanted = match self.config.text.eos_token_id {
                2 => row.iter().copied().max().unwrap_or(0),
                eos => eos,
            };
            row.iter().position(|&id| id == wanted).unwrap_or(0) as i64
        });
        Ok(ends.collect())
    }

    /// Computes the scaled dot products of pictures and texts, [pictures, texts].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn logits_per_image(&self, image_embeds: &Tensor, text_embeds: &Tensor) -> Result<Tensor> {
        let scale = self.net.tensor("logit_scale")?.f_exp()?;
        Ok(image_embeds
            .f_matmul(&text_embeds.f_transpose(0, 1)?)?
            .f_mul(&scale)?)
    }
}

/// Divides vectors by their lengths.
fn unit(x: &Tensor) -> Result<Tensor> {
    let length = x
        .f_square()?
        .f_sum_dim_intlist([-1].as_slice(), true, Kind::Float)?
        .f_sqrt()?;
    Ok(x.f_div(&length)?)
}

/// Builds the bias of causal attention over real tokens, [B, 1, L, L], from the attention mask `real`, [B, L].
fn causal(real: &Tensor) -> Result<Tensor> {
    let (batch, length) = real.size2()?;
    let all = Tensor::f_ones([length, length], (Kind::Float, real.device()))?.f_tril(0)?;
    let real = real.f_to_kind(Kind::Float)?.f_view([batch, 1, 1, length])?;
    Ok(all.f_mul(&real)?.f_rsub_scalar(1.0)?.f_mul_scalar(SHUT)?)
}
