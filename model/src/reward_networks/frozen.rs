//! The weights of a network that is not trained: named tensors in f32, and the layers that use them.
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

/// The published name and the shape of a tensor.
pub(super) type Shape = (String, Vec<i64>);

/// The most layers that a `config.json` may request.
pub(super) const MOST_LAYERS: usize = 1024;

/// The named weights of a network, on one device.
#[derive(Debug)]
pub(super) struct Frozen {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
}

impl Frozen {
    /// Loads the wanted tensors from `model.safetensors`. `ignored` says which other tensors the file may contain.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] if a tensor is missing, extra or misshapen, with its name; the errors of
    /// [`safetensors::read`]; any error libtorch reports.
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

    /// Returns the device of the weights.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Returns the number of parameters.
    pub(super) fn count(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.numel() as u64).sum()
    }

    /// Returns a weight.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the name was not among the wanted ones at loading, which is a bug in this crate.
    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.get(name);
        found.ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))
    }

    /// Applies a linear layer, with its bias if it has one.
    pub(super) fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let bias = self.tensors.get(&format!("{name}.bias"));
        Ok(x.f_linear(self.tensor(&format!("{name}.weight"))?, bias)?)
    }

    /// Applies a layer norm over the last dimension.
    pub(super) fn norm(&self, x: &Tensor, name: &str, eps: f64) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensor(&format!("{name}.bias"))?;
        Ok(x.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true)?)
    }

    /// Embeds the patches of pixels, [B, C, P, P], as [B, (P / patch)^2, D].
    pub(super) fn patches(&self, pixels: &Tensor, name: &str, patch: i64) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias = self.tensors.get(&format!("{name}.bias"));
        let patches = pixels.f_conv2d(weight, bias, [patch, patch], [0, 0], [1, 1], 1)?;
        Ok(patches.f_flatten(2, 3)?.f_transpose(1, 2)?)
    }

    /// Computes the sum of the token and position embeddings, [B, L, D], of token ids, [B, L].
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the text is empty or too long or an id is outside the vocabulary, or any error
    /// libtorch reports.
    pub(super) fn embed(&self, ids: &Tensor, tokens: &str, positions: &str) -> Result<Tensor> {
        let (tokens, positions) = (self.tensor(tokens)?, self.tensor(positions)?);
        let (_, length) = ids.size2()?;
        if length > positions.size()[0] || length == 0 {
            let most = positions.size()[0];
            return Err(ModelError::Refused(format!(
                "the text has {length} tokens; the network reads 1 to {most}"
            )));
        }
        let rows = tokens.size()[0];
        let (low, high) = (ids.f_min()?.f_int64_value(&[])?, ids.f_max()?.f_int64_value(&[])?);
        if low < 0 || high >= rows {
            let bad = if low < 0 { low } else { high };
            return Err(ModelError::Refused(format!(
                "found token id {bad}, but the vocabulary has {rows} tokens"
            )));
        }
        let words = Tensor::f_embedding(tokens, &ids.f_to_device(self.device)?, -1, false, false)?;
        Ok(words.f_add(&positions.f_narrow(0, 0, length)?)?)
    }
}

/// Computes attention with H heads, [B, L, D], from queries, [B, L, D], and keys and values, [B, K, D]. The bias on the
/// scores broadcasts to [B, H, L, K].
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

/// Appends the shapes of a linear layer with a bias.
pub(super) fn linear_shapes(shapes: &mut Vec<Shape>, name: &str, ins: usize, outs: usize) {
    shapes.push((format!("{name}.weight"), vec![outs as i64, ins as i64]));
    shapes.push((format!("{name}.bias"), vec![outs as i64]));
}

/// Appends the shapes of a layer norm.
pub(super) fn norm_shapes(shapes: &mut Vec<Shape>, name: &str, width: usize) {
    shapes.push((format!("{name}.weight"), vec![width as i64]));
    shapes.push((format!("{name}.bias"), vec![width as i64]));
}

/// Reads a configuration from a JSON file. `what` names the network in an error.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read, [`ModelError::Checkpoint`] if it is not such a configuration.
pub(super) fn read_config<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = bounded_file::read_text(path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(path, source))?;
    serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(path, format!("not {what}'s configuration: {error}")))
}

/// Checks the shape of a transformer.
///
/// # Errors
/// [`ModelError::Checkpoint`] if the heads do not divide the width or there are too many layers.
pub(super) fn check_shape(path: &Path, tower: &str, width: usize, heads: usize, layers: usize) -> Result<()> {
    if width == 0 || heads == 0 || !width.is_multiple_of(heads) {
        let message = format!("{tower}: width {width} is not a multiple of {heads} heads");
        return Err(ModelError::checkpoint(path, message));
    }
    if layers > MOST_LAYERS {
        let message = format!("{tower}: found {layers} layers, expected at most {MOST_LAYERS}");
        return Err(ModelError::checkpoint(path, message));
    }
    Ok(())
}

/// Checks the sizes of a picture and of its patches.
///
/// # Errors
/// [`ModelError::Checkpoint`] if a patch is empty or larger than the picture, or the picture is too large.
pub(super) fn check_patches(path: &Path, side: usize, patch: usize) -> Result<()> {
    if patch == 0 || patch > side || side > MOST_PIXELS {
        let message = format!(
            "image_size is {side} and patch_size {patch}; expected a patch of 1 to image_size pixels, and at most \
             {MOST_PIXELS} pixels"
        );
        return Err(ModelError::checkpoint(path, message));
    }
    Ok(())
}

/// The largest side of a picture, in pixels, that a `config.json` may request.
const MOST_PIXELS: usize = 4096;

/// Checks that pixels have the shape [B, channels, side, side].
///
/// # Errors
/// [`ModelError::Refused`] if they do not, with both shapes.
pub(super) fn check_pixels(pixels: &Tensor, channels: usize, side: usize) -> Result<()> {
    let (channels, side) = (channels as i64, side as i64);
    match *pixels.size() {
        [_, c, h, w] if (c, h, w) == (channels, side, side) => Ok(()),
        ref found => Err(ModelError::Refused(format!(
            "the pixels have shape {found:?}, expected [pictures, {channels}, {side}, {side}]"
        ))),
    }
}
