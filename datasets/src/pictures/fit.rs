//! Fits a picture of any size to the size that a model reads, usually a square (`mmada.md` 7.5).

use std::borrow::Cow;
use std::str::FromStr;

use demask_api::{Picture, PictureSize};
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use crate::pictures::bicubic::{WhiteCanvas, resize, resize_canvas, resize_part};

/// How a picture is brought to another aspect ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// Scales the picture to the smallest size that covers the target, then crops the centre: the published default.
    #[default]
    Crop,
    /// Scales both sides independently: published for diagrams and documents.
    Squash,
    /// Pads the picture with white to the target's aspect ratio, then scales it, so that nothing is cropped. An odd
    /// pixel of padding goes right or below.
    Pad,
}

impl FromStr for Fit {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "crop" => Ok(Self::Crop),
            "squash" => Ok(Self::Squash),
            "pad" => Ok(Self::Pad),
            _ => Err(format!("{name}: expected crop, squash or pad")),
        }
    }
}

/// Fits a picture to `size` by antialiased bicubic interpolation. With `sharp`, a picture whose sides are whole
/// multiples of the target's is subsampled instead: one pixel of each block is taken.
#[must_use]
pub fn fit(image: &DynamicImage, size: PictureSize, fit: Fit, sharp: bool) -> Picture {
    let pixels = |side: usize| u32::try_from(side).unwrap_or(u32::MAX).max(1);
    let (width, height) = (pixels(size.width), pixels(size.height));
    let image = match image {
        DynamicImage::ImageRgb8(image) => Cow::Borrowed(image),
        other => Cow::Owned(other.to_rgb8()),
    };
    let image = image.as_ref();
    let times = image.width() / width;
    let whole = (image.width(), image.height()) == (times * width, times * height) && times > 0;
    let fitted = if whole && sharp {
        image::imageops::resize(image, width, height, FilterType::Nearest)
    } else {
        match fit {
            Fit::Crop => cropped(image, [width, height]),
            Fit::Squash => resize(image, width, height),
            Fit::Pad => padded(image, [width, height]),
        }
    };
    Picture {
        width: fitted.width() as usize,
        height: fitted.height() as usize,
        rgb: fitted.into_raw(),
    }
}

/// Fits a picture in memory by cropping; one of the right size is returned unchanged.
#[must_use]
pub fn fit_picture(picture: &Picture, size: PictureSize) -> Picture {
    match (u32::try_from(picture.width), u32::try_from(picture.height)) {
        (Ok(width), Ok(height)) if picture.size() != size => {
            match RgbImage::from_raw(width, height, picture.rgb.clone()) {
                Some(image) => fit(&DynamicImage::ImageRgb8(image), size, Fit::Crop, false),
                None => picture.clone(),
            }
        }
        _ => picture.clone(),
    }
}

/// Resizes to the smallest size that covers the target and crops its centre, as torchvision's `Resize(side)` and
/// `CenterCrop(side)` do for a square. The longer side is rounded down; a start at half a pixel is rounded to even.
fn cropped(image: &RgbImage, [width, height]: [u32; 2]) -> RgbImage {
    let (across, down) = (image.width().max(1), image.height().max(1));
    let [across, down] = if is_wider([across, down], [width, height]) {
        [scaled(across, height, down), height]
    } else {
        [width, scaled(down, width, across)]
    };
    let middle = |length: u32, kept: u32| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let start = (f64::from(length - kept) / 2.0).round_ties_even() as u32;
        start
    };
    let start = [middle(across, width), middle(down, height)];
    resize_part(image, [across, down], start, [width, height])
}

/// Centres the picture on the smallest white canvas of the target's aspect ratio, to a pixel, and scales the canvas.
/// The canvas is never allocated: for a picture one pixel high it would be a square of the picture's width.
fn padded(image: &RgbImage, [width, height]: [u32; 2]) -> RgbImage {
    let (across, down) = (image.width().max(1), image.height().max(1));
    let [wide, high] = if is_wider([across, down], [width, height]) {
        [across, scaled(across, height, width).max(down)]
    } else {
        [scaled(down, width, height).max(across), down]
    };
    let (left, top) = ((wide - across) / 2, (high - down) / 2);
    let canvas = WhiteCanvas {
        image,
        offset: [left, top],
        size: [wide, high],
    };
    resize_canvas(&canvas, [width, height], [0, 0], [width, height])
}

/// Whether the first size has a larger aspect ratio (width to height) than the second.
fn is_wider([a, b]: [u32; 2], [width, height]: [u32; 2]) -> bool {
    u64::from(a) * u64::from(height) > u64::from(b) * u64::from(width)
}

/// Computes `length * to / from`, rounded down.
fn scaled(length: u32, to: u32, from: u32) -> u32 {
    u32::try_from(u64::from(length) * u64::from(to) / u64::from(from)).unwrap_or(u32::MAX)
}
