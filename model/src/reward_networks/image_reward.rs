//! ImageReward (arXiv 2304.05977): a score of how much people would prefer a picture for a prompt.
//!
//! It has three parts: BLIP's vision transformer, a BERT with cross-attention to the picture in every layer, and a head
//! of linear layers on the first position of the text.
//!
//! Legend: B rows, P side of a picture in pixels, N patches, W width of the vision transformer, L text positions,
//! D width of the text encoder.

#![allow(non_snake_case)]

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use super::MED_CONFIG;
use super::frozen::{
    Frozen, Shape, attend, check_patches, check_pixels, check_shape, linear_shapes, norm_shapes, read_config,
};
use crate::error::Result;

/// The epsilon of the vision transformer's norms, as published.
const VISION_EPS: f64 = 1e-6;
/// The bias on the score of a padding key, as published.
const SHUT: f64 = -10_000.0;
/// The layers of the head: the number in the published name and the output width. Between them there is only dropout,
/// which is off.
const HEAD: [(usize, usize); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];

/// The `config.json` of an ImageReward model: the values that the published code has in code and in `med_config.json`.
/// The defaults are those of the published model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct ImageRewardConfig {
    /// The vision transformer.
    pub vision: BlipVisionConfig,
    /// The text encoder.
    pub text: BlipTextConfig,
    /// The mean of the head's output, which is subtracted from it.
    pub mean: f64,
    /// The standard deviation of the head's output, which divides the difference.
    pub std: f64,
}

impl Default for ImageRewardConfig {
    fn default() -> Self {
        Self {
            vision: BlipVisionConfig::default(),
            text: BlipTextConfig::default(),
            mean: 0.167_173_628_300_524_26,
            std: 1.033_339_496_605_407_2,
        }
    }
}

/// The configuration of the vision transformer. Its feed-forward layer is four times as wide as its hidden states.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlipVisionConfig {
    /// The side of a picture in pixels, P.
    pub image_size: usize,
    /// The side of a patch in pixels.
    pub patch_size: usize,
    /// The width of the hidden states, W.
    pub width: usize,
    /// The number of blocks.
    pub depth: usize,
    /// The number of attention heads.
    pub heads: usize,
}

impl Default for BlipVisionConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 16,
            width: 1024,
            depth: 24,
            heads: 16,
        }
    }
}

/// The configuration of the text encoder. Its cross-attention reads features of the vision transformer's width.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct BlipTextConfig {
    /// The size of the vocabulary: BERT's plus two tokens.
    pub vocab_size: usize,
    /// The width of the hidden states, D.
    pub hidden_size: usize,
    /// The number of layers.
    #[serde(alias = "num_hidden_layers")]
    pub layers: usize,
    /// The number of attention heads.
    #[serde(alias = "num_attention_heads")]
    pub heads: usize,
    /// The width of the feed-forward layer.
    pub intermediate_size: usize,
    /// The length of the longest text, in tokens.
    pub max_position_embeddings: usize,
    /// The epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The token that pads a batch.
    pub pad_token_id: i64,
}

impl Default for BlipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_524,
            hidden_size: 768,
            layers: 12,
            heads: 12,
            intermediate_size: 3072,
            max_position_embeddings: 512,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
        }
    }
}

impl ImageRewardConfig {
    /// Reads `config.json`. If there is none, it reads the published `med_config.json`, and the vision transformer is
    /// the published one.
    ///
    /// # Errors
    /// [`ModelError::Io`](crate::ModelError::Io) if neither can be read,
    /// [`ModelError::Checkpoint`](crate::ModelError::Checkpoint) if it is not a configuration.
    fn read(dir: &Path) -> Result<Self> {
        let (path, published) = (dir.join(demask_api::checkpoint::CONFIG), dir.join(MED_CONFIG));
        let config = if path.exists() || !published.exists() {
            read_config(&path, "ImageReward")?
        } else {
            Self {
                text: read_config(&published, "ImageReward's text encoder")?,
                ..Self::default()
            }
        };
        config.check(&path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        check_shape(path, "vision", vision.width, vision.heads, vision.depth)?;
        check_shape(path, "text", text.hidden_size, text.heads, text.layers)?;
        check_patches(path, vision.image_size, vision.patch_size)
    }

    fn shapes(&self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        self.vision_shapes(&mut shapes);
        self.text_shapes(&mut shapes);
        let mut width = self.text.hidden_size;
        for (number, outs) in HEAD {
            linear_shapes(&mut shapes, &format!("mlp.layers.{number}"), width, outs);
            width = outs;
        }
        shapes
    }

    fn vision_shapes(&self, shapes: &mut Vec<Shape>) {
        let (vision, W) = (&self.vision, self.vision.width);
        let patch = vision.patch_size as i64;
        let patches = (vision.image_size / vision.patch_size).pow(2) as i64;
        shapes.push((format!("{VISION}.cls_token"), vec![1, 1, W as i64]));
        shapes.push((format!("{VISION}.pos_embed"), vec![1, patches + 1, W as i64]));
        shapes.push((
            format!("{VISION}.patch_embed.proj.weight"),
            vec![W as i64, 3, patch, patch],
        ));
        shapes.push((format!("{VISION}.patch_embed.proj.bias"), vec![W as i64]));
        for block in 0..vision.depth {
            let name = format!("{VISION}.blocks.{block}");
            norm_shapes(shapes, &format!("{name}.norm1"), W);
            norm_shapes(shapes, &format!("{name}.norm2"), W);
            linear_shapes(shapes, &format!("{name}.attn.qkv"), W, 3 * W);
            linear_shapes(shapes, &format!("{name}.attn.proj"), W, W);
            linear_shapes(shapes, &format!("{name}.mlp.fc1"), W, 4 * W);
            linear_shapes(shapes, &format!("{name}.mlp.fc2"), 4 * W, W);
        }
        norm_shapes(shapes, &format!("{VISION}.norm"), W);
    }

    fn text_shapes(&self, shapes: &mut Vec<Shape>) {
        let (text, D) = (&self.text, self.text.hidden_size);
        shapes.push((TOKENS.into(), vec![text.vocab_size as i64, D as i64]));
        shapes.push((
            POSITIONS.into(),
            vec![text.max_position_embeddings as i64, D as i64],
        ));
        norm_shapes(shapes, &format!("{TEXT}.embeddings.LayerNorm"), D);
        for layer in 0..text.layers {
            let name = format!("{TEXT}.encoder.layer.{layer}");
            for (part, seen) in [("attention", D), ("crossattention", self.vision.width)] {
                linear_shapes(shapes, &format!("{name}.{part}.self.query"), D, D);
                linear_shapes(shapes, &format!("{name}.{part}.self.key"), seen, D);
                linear_shapes(shapes, &format!("{name}.{part}.self.value"), seen, D);
                linear_shapes(shapes, &format!("{name}.{part}.output.dense"), D, D);
                norm_shapes(shapes, &format!("{name}.{part}.output.LayerNorm"), D);
            }
            linear_shapes(
                shapes,
                &format!("{name}.intermediate.dense"),
                D,
                text.intermediate_size,
            );
            linear_shapes(shapes, &format!("{name}.output.dense"), text.intermediate_size, D);
            norm_shapes(shapes, &format!("{name}.output.LayerNorm"), D);
        }
    }
}

const VISION: &str = "blip.visual_encoder";
const TEXT: &str = "blip.text_encoder";
const TOKENS: &str = "blip.text_encoder.embeddings.word_embeddings.weight";
const POSITIONS: &str = "blip.text_encoder.embeddings.position_embeddings.weight";

/// Returns whether a published tensor is not part of the reward: BLIP's projections for another loss, and BERT's table
/// of positions.
fn ignored(name: &str) -> bool {
    let unused = ["blip.vision_proj.", "blip.text_proj."];
    name.ends_with(".position_ids") || unused.iter().any(|prefix| name.starts_with(prefix))
}

/// An ImageReward network.
#[derive(Debug)]
pub struct ImageRewardNetwork {
    config: ImageRewardConfig,
    net: Frozen,
}

impl ImageRewardNetwork {
    /// Loads `config.json` (or the published `med_config.json`) and `model.safetensors` of a folder. Tensors have the
    /// published names and any floating-point dtype; the network computes in f32.
    ///
    /// # Errors
    /// [`ModelError::Io`](crate::ModelError::Io) if a file cannot be read.
    /// [`ModelError::Checkpoint`](crate::ModelError::Checkpoint) if a file is broken or a tensor is missing, extra or
    /// misshapen. Any error libtorch reports.
    pub fn load(dir: &Path, device: Device) -> Result<Self> {
        let config = ImageRewardConfig::read(dir)?;
        let net = Frozen::load(dir, config.shapes(), ignored, device)?;
        Ok(Self { config, net })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ImageRewardConfig {
        &self.config
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.net.count()
    }

    /// Computes the picture features that the text encoder attends to, [B, N + 1, W], from normalised pixels, [B, 3, P,
    /// P].
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::ModelError::Refused) if the pixels have another shape, or any error libtorch
    /// reports.
    pub fn image_features(&self, pixels: &Tensor) -> Result<Tensor> {
        let (vision, net) = (&self.config.vision, &self.net);
        check_pixels(pixels, 3, vision.image_size)?;
        let pixels = pixels.f_to_device(net.device())?.f_to_kind(Kind::Float)?;
        let patches = net.patches(
            &pixels,
            &format!("{VISION}.patch_embed.proj"),
            vision.patch_size as i64,
        )?;
        let (batch, _, width) = patches.size3()?;
        let class = net.tensor(&format!("{VISION}.cls_token"))?;
        let class = class.f_expand([batch, 1, width], false)?;
        let positions = net.tensor(&format!("{VISION}.pos_embed"))?;
        let mut x = Tensor::f_cat(&[class, patches], 1)?.f_add(positions)?;
        for block in 0..vision.depth {
            x = self.vision_block(&x, &format!("{VISION}.blocks.{block}"))?;
        }
        net.norm(&x, &format!("{VISION}.norm"), VISION_EPS)
    }

    /// Runs one pre-norm block of the vision transformer.
    fn vision_block(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let net = &self.net;
        let h = net.norm(x, &format!("{name}.norm1"), VISION_EPS)?;
        let qkv = net.linear(&h, &format!("{name}.attn.qkv"))?.f_chunk(3, -1)?;
        let mixed = attend(&qkv[0], &qkv[1], &qkv[2], self.config.vision.heads as i64, None)?;
        let x = x.f_add(&net.linear(&mixed, &format!("{name}.attn.proj"))?)?;
        let h = net.norm(&x, &format!("{name}.norm2"), VISION_EPS)?;
        let h = net.linear(&h, &format!("{name}.mlp.fc1"))?.f_gelu("none")?;
        Ok(x.f_add(&net.linear(&h, &format!("{name}.mlp.fc2"))?)?)
    }

    /// Computes the text features, [B, L, D], from token ids, [B, L], their attention mask `real`, [B, L], and the
    /// picture features.
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::ModelError::Refused) if a text is too long or an id is outside the vocabulary, or
    /// any error libtorch reports.
    pub fn text_features(&self, ids: &Tensor, real: &Tensor, image_features: &Tensor) -> Result<Tensor> {
        let (text, net) = (&self.config.text, &self.net);
        let (batch, length) = real.size2()?;
        let real = real.f_to_device(net.device())?.f_to_kind(Kind::Float)?;
        let bias = real
            .f_rsub_scalar(1.0)?
            .f_mul_scalar(SHUT)?
            .f_view([batch, 1, 1, length])?;
        let embedded = net.embed(ids, TOKENS, POSITIONS)?;
        let mut x = net.norm(
            &embedded,
            &format!("{TEXT}.embeddings.LayerNorm"),
            text.layer_norm_eps,
        )?;
        for layer in 0..text.layers {
            let name = format!("{TEXT}.encoder.layer.{layer}");
            x = self.look(&x, &x, Some(&bias), &format!("{name}.attention"))?;
            x = self.look(&x, image_features, None, &format!("{name}.crossattention"))?;
            let h = net
                .linear(&x, &format!("{name}.intermediate.dense"))?
                .f_gelu("none")?;
            let h = net.linear(&h, &format!("{name}.output.dense"))?.f_add(&x)?;
            x = net.norm(&h, &format!("{name}.output.LayerNorm"), text.layer_norm_eps)?;
        }
        Ok(x)
    }

    /// Runs attention from `x` to `seen`, with the residual connection and the norm after it.
    fn look(&self, x: &Tensor, seen: &Tensor, bias: Option<&Tensor>, name: &str) -> Result<Tensor> {
        let (text, net) = (&self.config.text, &self.net);
        let mixed = attend(
            &net.linear(x, &format!("{name}.self.query"))?,
            &net.linear(seen, &format!("{name}.self.key"))?,
            &net.linear(seen, &format!("{name}.self.value"))?,
            text.heads as i64,
            bias,
        )?;
        let h = net.linear(&mixed, &format!("{name}.output.dense"))?.f_add(x)?;
        net.norm(&h, &format!("{name}.output.LayerNorm"), text.layer_norm_eps)
    }

    /// Computes the rewards, [B, 1], from text features, [B, L, D]. They are about standard normal on the pictures that
    /// people rated.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn reward(&self, text_features: &Tensor) -> Result<Tensor> {
        let mut x = text_features.f_select(1, 0)?;
        for (number, _) in HEAD {
            x = self.net.linear(&x, &format!("mlp.layers.{number}"))?;
        }
        Ok(x.f_sub_scalar(self.config.mean)?.f_div_scalar(self.config.std)?)
    }
}
