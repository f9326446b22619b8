//! The weights of a network that is only ever asked: named tensors in f32, the layers that read them.
//!
//! Legend: B rows, L positions, D width, H heads.

#![allow(non_snake_case)]

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::{bounded_file, limits};
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::safetensors;

/// A tensor's published name and its shape.
pub(super) type Shape = (String, Vec<i64>);

/// The most layers that a `config.json` may ask for.
pub(super) const MOST_LAYERS: usize = 1024;

/// Named weights.
#[derive(Debug)]
pub(super) struct Frozen {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
}

impl Frozen {
    /// Takes the wanted tensors out of `model.safetensors`; `ignored` says which others may be there.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] naming the tensor that is missing, extra or misshapen.
    pub(super) fn load(
        dir: &Path,
        wanted: Vec<Shape>,
        ignored: impl Fn(&str) -> bool,
        device: Device,
    ) -> Result<Self> {
        let path = dir.join(demask_api::checkpoint::WEIGHTS);
        let mut stored = safetensors::read(&path)?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in wanted {
            let tensor = stored.remove(&name).ok_or_else(|| {
                let message = format!("tensor {name} is missing, expected shape {shape:?}");
                ModelError::checkpoint(&path, message)
            })?;
            if tensor.size() != shape {
                let message = format!("tensor {name} has shape {:?}, expected {shape:?}", tensor.size());
                return Err(ModelError::checkpoint(&path, message));
            }
            tensors.insert(name, tensor.f_to_device(device)?.f_to_kind(Kind::Float)?);
        }
        if let Some(extra) = stored.keys().find(|name| !ignored(name)) {
            let message = format!("tensor {extra} is not part of the network that config.json describes");
            return Err(ModelError::checkpoint(&path, message));
        }
        Ok(Self { tensors, device })
    }

    /// The device that holds it.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.numel() as u64).sum()
    }

    /// A weight.
    ///
    /// # Errors
    /// [`ModelError::Refused`] for a name that was not asked for at loading (a fault of this crate).
    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.get(name);
        found.ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))
    }

    /// A linear layer; its bias only where there is one.
    pub(super) fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let bias = self.tensors.get(&format!("{name}.bias"));
        Ok(x.f_linear(self.tensor(&format!("{name}.weight"))?, bias)?)
    }

    /// A layer norm over the last side.
    pub(super) fn norm(&self, x: &Tensor, name: &str, eps: f64) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        Ok(x.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true)?)
    }

    /// Pixels [B, C, P, P] to patches in rows [B, (P / patch)^2, D].
    pub(super) fn patches(&self, pixels: &Tensor, name: &str, patch: i64) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensors.get(&format!("{name}.bias"));
        let patches = pixels.f_conv2d(weight, bias, [patch, patch], [0, 0], [1, 1], 1)?;
        Ok(patches.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }

    /// Token ids [B, L] to their rows and those of their positions, summed [B, L, D].
    ///
    /// # Errors
    /// [`ModelError::Refused`] for more positions than there are, or an id beyond the vocabulary.
    pub(super) fn embed(&self, ids: &Tensor, tokens: &str, positions: &str) -> Result<Tensor> {
        let (tokens, positions) = (self.tensor(tokens)?, self.tensor(positions)?);
        let (_, length) = ids.size2()?;
        if length > positions.size()[0] || length == 0 {
            let most = positions.size()[0];
            return Err(ModelError::Refused(format!(
                "a text of {length} tokens; the network reads 1 to {most}"
            )));
        }
        let rows = tokens.size()[0];
        let (low, high) = (ids.f_min()?.f_int64_value(&[])?, ids.f_max()?.f_int64_value(&[])?);
        if low < 0 || high >= rows {
            let bad = if low < 0 { low } else { high };
            return Err(ModelError::Refused(format!(
                "token id {bad}; the vocabulary has {rows}"
            )));
        }
        let words = Tensor::f_embedding(tokens, &ids.f_to_device(self.device)?, -1, false, false)?;
        Ok(words.f_add(&positions.f_narrow(0, 0, length)?)?)
    }
}

/// Attention of H heads: queries [B, L, D], keys and values [B, K, D], a bias on the scores that broadcasts to
/// [B, H, L, K]; mixed values [B, L, D].
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: i64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, length, width) = q.size3()?;
    let split = |x: &Tensor| x.f_reshape([batch, -1, heads, width / heads])?.f_transpose(1, 2);
    let (q, k, v) = (split(q)?, split(k)?, split(v)?);
    let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, bias, 0.0, false, None, false)?;
    Ok(mixed.f_transpose(1, 2)?.f_reshape([batch, length, width])?)
}

/// The shapes of a linear layer with a bias.
pub(super) fn linear_shapes(shapes: &mut Vec<Shape>, name: &str, ins: usize, outs: usize) {
    shapes.push((format!("{name}.weight"), vec![outs as i64, ins as i64]));
    shapes.push((format!("{name}.bias"), vec![outs as i64]));
}

/// The shapes of a layer norm.
pub(super) fn norm_shapes(shapes: &mut Vec<Shape>, name: &str, width: usize) {
    shapes.push((format!("{name}.weight"), vec![width as i64]));
    shapes.push((format!("{name}.bias"), vec![width as i64]));
}

/// Reads a JSON file as a configuration.
///
/// # Errors
/// A file that is missing or is not one, named.
pub(super) fn read_config<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = bounded_file::read_text(path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(path, source))?;
    serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(path, format!("not {what}'s configuration: {error}")))
}

/// What every transformer's shape must keep to.
///
/// # Errors
/// [`ModelError::Checkpoint`] with what was expected and found.
pub(super) fn check_shape(path: &Path, tower: &str, width: usize, heads: usize, layers: usize) -> Result<()> {
    if width == 0 || heads == 0 || !width.is_multiple_of(heads) {
        let message = format!("{tower}: width {width} is no multiple of {heads} heads");
        return Err(ModelError::checkpoint(path, message));
    }
    if layers > MOST_LAYERS {
        let message = format!("{tower}: {layers} layers, expected at most {MOST_LAYERS}");
        return Err(ModelError::checkpoint(path, message));
    }
    Ok(())
}

/// What a picture's cutting into patches must keep to.
///
/// # Errors
/// [`ModelError::Checkpoint`] with what was expected and found.
pub(super) fn check_patches(path: &Path, side: usize, patch: usize) -> Result<()> {
    if patch == 0 || patch > side || side > MOST_PIXELS {
        let message = format!(
            "pictures of {side} pixels in patches of {patch}; expected a patch of 1 to image_size pixels, and at \
             most {MOST_PIXELS}"
        );
        return Err(ModelError::checkpoint(path, message));
    }
    Ok(())
}

/// The largest side of a picture that a `config.json` may ask for.
const MOST_PIXELS: usize = 4096;

/// Refuses pixels of another shape than [B, channels, side, side].
///
/// # Errors
/// [`ModelError::Refused`] with both shapes.
pub(super) fn check_pixels(pixels: &Tensor, channels: usize, side: usize) -> Result<()> {
    let (channels, side) = (channels as i64, side as i64);
    match *pixels.size() {
        [_, c, h, w] if (c, h, w) == (channels, side, side) => Ok(()),
        ref found => Err(ModelError::Refused(format!(
            "pixels of shape {found:?}; the network reads [pictures, {channels}, {side}, {side}]"
        ))),
    }
}
