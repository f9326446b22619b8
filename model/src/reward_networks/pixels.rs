//! The preprocessing of pictures for a reward network: resize, centre crop, normalise.
//!
//! Legend: B pictures, P side of the network's pictures in pixels.

#![allow(non_snake_case)]

use std::path::Path;

use demask_api::Picture;
use serde::Deserialize;
use tch::Tensor;

use super::frozen::read_config;
use super::resample::{Filter, resize};
use crate::error::{ModelError, Result};

/// The file with the preprocessing settings of a CLIP model.
const PREPROCESSOR: &str = "preprocessor_config.json";
/// The mean and the standard deviation of each channel in CLIP's training data. BLIP and ImageReward use the same.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
#[allow(clippy::excessive_precision)] // as published
const STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// The most pixels of a resized picture. A very long picture exceeds it and is refused.
const MOST_PIXELS: usize = 1 << 26;

/// The preprocessing settings of a network.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pixels {
    resize: Resize,
    filter: Filter,
    /// The side of the network's pictures, P.
    side: usize,
    cut: Cut,
    scale: f64,
    mean: [f32; 3],
    std: [f32; 3],
}

/// The size to which a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resize {
    /// The length of the shorter side. The longer side keeps the aspect ratio.
    Shorter(usize),
    /// The width and the height.
    Exactly(usize, usize),
    /// The picture's own size.
    No,
}

/// The rounding of the centre crop's offset, if the number of pixels to cut is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Round down (transformers).
    Down,
    /// Round half to even (torchvision).
    Even,
}

/// The contents of `preprocessor_config.json`, with the published names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PublishedPreprocessor {
    do_resize: Option<bool>,
    size: Option<PublishedSize>,
    resample: Option<u8>,
    do_center_crop: Option<bool>,
    crop_size: Option<PublishedSize>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum PublishedSize {
    Side(usize),
    Shorter { shortest_edge: usize },
    Exactly { height: usize, width: usize },
}

impl Pixels {
    /// Returns the published settings of ImageReward, which uses torchvision's transforms.
    pub(super) fn image_reward(side: usize) -> Self {
        Self {
            cut: Cut::Even,
            ..Self::clip(side)
        }
    }

    /// Returns the published settings of CLIP.
    fn clip(side: usize) -> Self {
        Self {
            resize: Resize::Shorter(side),
            filter: Filter::Bicubic,
            side,
            cut: Cut::Down,
            scale: 1.0 / 255.0,
            mean: MEAN,
            std: STD,
        }
    }

    /// Reads the settings from `preprocessor_config.json` in a CLIP model's folder. Absent settings are the published
    /// ones.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] if the file is broken, names an unknown filter, or produces pictures of another size
    /// than the network reads.
    pub(super) fn of_clip(dir: &Path, side: usize) -> Result<Self> {
        let path = dir.join(PREPROCESSOR);
        if !path.exists() {
            return Ok(Self::clip(side));
        }
        let published: PublishedPreprocessor = read_config(&path, "an image processor")?;
        let wrong = |message: String| Err(ModelError::checkpoint(&path, message));
        let number = published.resample.unwrap_or(3);
        let Some(filter) = Filter::numbered(number) else {
            return wrong(format!(
                "resample is {number}, expected 3 (bicubic) or 2 (bilinear)"
            ));
        };
        let resize = match (published.do_resize, published.size) {
            (Some(false), _) => Resize::No,
            (_, None) => Resize::Shorter(side),
            (_, Some(PublishedSize::Side(side) | PublishedSize::Shorter { shortest_edge: side })) => {
                Resize::Shorter(side)
            }
            (_, Some(PublishedSize::Exactly { height, width })) => Resize::Exactly(width, height),
        };
        let cut = match (published.do_center_crop, published.crop_size, resize) {
            (Some(false), _, Resize::Exactly(width, height)) => (width, height),
            (Some(false), ..) => {
                return wrong(
                    "the processor does not make pictures square; expected do_center_crop, or a size with both sides"
                        .into(),
                );
            }
            (_, None, _) => (side, side),
            (_, Some(PublishedSize::Side(side) | PublishedSize::Shorter { shortest_edge: side }), _) => {
                (side, side)
            }
            (_, Some(PublishedSize::Exactly { height, width }), _) => (width, height),
        };
        // The network has one position embedding per patch, so it reads pictures of one size only.
        if cut != (side, side) || matches!(resize, Resize::Shorter(shorter) if shorter < side) {
            return wrong(format!(
                "the processor resizes to {resize:?} and crops to {} x {}, but the network reads {side} x {side}",
                cut.0, cut.1
            ));
        }
        let plain = published.do_normalize == Some(false);
        let factor = published.rescale_factor.unwrap_or(1.0 / 255.0);
        Ok(Self {
            resize,
            filter,
            side,
            cut: Cut::Down,
            scale: if published.do_rescale == Some(false) {
                1.0
            } else {
                factor
            },
            mean: if plain {
                [0.0; 3]
            } else {
                published.image_mean.unwrap_or(MEAN)
            },
            std: if plain {
                [1.0; 3]
            } else {
                published.image_std.unwrap_or(STD)
            },
        })
    }

    /// Preprocesses pictures of any sizes to pixels, [B, 3, P, P], on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if a picture has no pixels, a number of bytes that does not match its sides, or too many
    /// pixels, or if it is smaller than the crop; or any error libtorch reports.
    pub(super) fn tensor(&self, pictures: &[Picture]) -> Result<Tensor> {
        let mut values = Vec::with_capacity(pictures.len() * 3 * self.side * self.side);
        for picture in pictures {
            let square = self.square(picture)?;
            for channel in 0..3 {
                let bytes = square.rgb.iter().skip(channel).step_by(3);
                values.extend(bytes.map(|&byte| self.value(byte, channel)));
            }
        }
        let side = self.side as i64;
        Ok(Tensor::f_from_slice(&values)?.f_view([pictures.len() as i64, 3, side, side])?)
    }

    /// Normalises one byte of a channel.
    #[allow(clippy::cast_possible_truncation)]
    fn value(&self, byte: u8, channel: usize) -> f32 {
        ((f64::from(byte) * self.scale) as f32 - self.mean[channel]) / self.std[channel]
    }

    /// Returns the centre crop of the resized picture.
    fn square(&self, picture: &Picture) -> Result<Picture> {
        let (width, height) = self.resized(picture)?;
        if width < self.side || height < self.side {
            let side = self.side;
            return Err(ModelError::Refused(format!(
                "the picture has {width} x {height} pixels, but {side} x {side} are cropped from it"
            )));
        }
        let large = resize(picture, width, height, self.filter);
        let (left, top) = (self.rest(width), self.rest(height));
        let rows = large.rgb.chunks_exact(3 * width).skip(top).take(self.side);
        Ok(Picture {
            width: self.side,
            height: self.side,
            rgb: rows
                .flat_map(|row| &row[3 * left..3 * (left + self.side)])
                .copied()
                .collect(),
        })
    }

    /// Returns the width and height after resizing.
    fn resized(&self, picture: &Picture) -> Result<(usize, usize)> {
        let (width, height) = (picture.width, picture.height);
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if bytes != Some(picture.rgb.len()) || picture.rgb.is_empty() {
            let found = picture.rgb.len();
            return Err(ModelError::Refused(format!(
                "the picture has {width} x {height} pixels and {found} bytes; expected three bytes per pixel"
            )));
        }
        let long =
            |shorter: usize, from: usize, to: usize| (shorter as u128 * to as u128 / from as u128) as usize;
        let (new_width, new_height) = match self.resize {
            Resize::No => (width, height),
            Resize::Exactly(width, height) => (width, height),
            Resize::Shorter(side) if width <= height => (side, long(side, width, height)),
            Resize::Shorter(side) => (long(side, height, width), side),
        };
        let largest = new_width.max(width).checked_mul(new_height.max(height));
        if largest.is_none_or(|pixels| pixels > MOST_PIXELS) {
            return Err(ModelError::Refused(format!(
                "the picture has {width} x {height} pixels, resized {new_width} x {new_height}; expected at most \
                 {MOST_PIXELS} pixels"
            )));
        }
        Ok((new_width, new_height))
    }

    /// Returns the number of pixels that are cut off before the crop.
    fn rest(&self, side: usize) -> usize {
        let rest = side - self.side;
        match self.cut {
            Cut::Down => rest / 2,
            Cut::Even if rest % 4 == 3 => rest / 2 + 1,
            Cut::Even => rest / 2,
        }
    }
}
