//! A picture of any size as a model reads it: a square of its own size (`mmada.md` 7.5).

use std::str::FromStr;

use demask_api::Picture;
use image::imageops::FilterType;
use image::{DynamicImage, Rgb, RgbImage};

use crate::bicubic::{resize, resize_part};

/// How a picture becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The short side to the square's, then the middle: the published default.
    #[default]
    Crop,
    /// Both sides to the square's, whatever they were: published for diagrams and documents.
    Squash,
    /// White around it, an odd pixel at the right or below, then to the square's: nothing is lost.
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

/// A picture as a square of `side` pixels, by bicubic interpolation that takes all pixels into account. A square of a whole
/// multiple of the side stays sharp where `sharp`: one pixel of each block is taken.
#[must_use]
pub fn fit(image: &DynamicImage, side: usize, fit: Fit, sharp: bool) -> Picture {
    let pixels = u32::try_from(side).unwrap_or(u32::MAX).max(1);
    let image = image.to_rgb8();
    let whole = image.width() == image.height() && image.width().is_multiple_of(pixels);
    let square = if whole && sharp {
        image::imageops::resize(&image, pixels, pixels, FilterType::Nearest)
    } else {
        match fit {
            Fit::Crop => cropped(&image, pixels),
            Fit::Squash => resize(&image, pixels, pixels),
            Fit::Pad => resize(&padded(&image), pixels, pixels),
        }
    };
    Picture {
        width: side,
        height: side,
        rgb: square.into_raw(),
    }
}

/// The same of a picture in memory; one of the right size is left as it is.
#[must_use]
pub fn fit_picture(picture: &Picture, side: usize) -> Picture {
    let size = (u32::try_from(picture.width), u32::try_from(picture.height));
    match size {
        (Ok(width), Ok(height)) if (picture.width, picture.height) != (side, side) => {
            match RgbImage::from_raw(width, height, picture.rgb.clone()) {
                Some(image) => fit(&DynamicImage::ImageRgb8(image), side, Fit::Crop, false),
                None => picture.clone(),
            }
        }
        _ => picture.clone(),
    }
}

/// torchvision's `Resize(side)` and `CenterCrop(side)`: the long side is rounded down, half a pixel to the even.
fn cropped(image: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = (u64::from(image.width().max(1)), u64::from(image.height().max(1)));
    let long = |long: u64, short: u64| {
        let length = u64::from(side) * long / short;
        u32::try_from(length).unwrap_or(u32::MAX)
    };
    let (across, down) = if width <= height {
        (side, long(height, width))
    } else {
        (long(width, height), side)
    };
    let middle = |length: u32| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let start = (f64::from(length - side) / 2.0).round_ties_even() as u32;
        start
    };
    resize_part(
        image,
        [across, down],
        [middle(across), middle(down)],
        [side, side],
    )
}

fn padded(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let side = width.max(height);
    let mut square = RgbImage::from_pixel(side, side, Rgb([255; 3]));
    let (left, top) = (i64::from((side - width) / 2), i64::from((side - height) / 2));
    image::imageops::replace(&mut square, image, left, top);
    square
}
