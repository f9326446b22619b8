//! Bicubic resampling of 8-bit pictures, bit-exact to Pillow's, with which published preprocessing resizes.
//!
//! Rows are resampled first, then columns, with 8-bit values in between and fixed-point weights. When a picture
//! shrinks, the kernel widens, so that every pixel counts. Bit-exactness matters because a tokenizer turns values near
//! zero into bits: a level more or less can change a code.

use std::ops::Range;

use image::RgbImage;

/// Fractional bits of a weight.
const PRECISION: u32 = 22;
/// The kernel's radius in pixels of the smaller picture.
const REACH: f64 = 2.0;

/// Resizes a picture.
#[must_use]
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize_part(image, [width, height], [0, 0], [width, height])
}

/// Resizes a picture to the size `whole` and returns only the part of `size` that begins at `start`; the rest is not
/// computed.
#[must_use]
pub fn resize_part(image: &RgbImage, whole: [u32; 2], start: [u32; 2], size: [u32; 2]) -> RgbImage {
    let canvas = WhiteCanvas {
        image,
        offset: [0, 0],
        size: [image.width(), image.height()],
    };
    resize_canvas(&canvas, whole, start, size)
}

/// A picture on a white canvas. The canvas is never allocated.
pub(super) struct WhiteCanvas<'a> {
    pub image: &'a RgbImage,
    /// The position of the picture's first pixel on the canvas.
    pub offset: [u32; 2],
    /// Width and height of the canvas.
    pub size: [u32; 2],
}

/// Like [`resize_part`], for a canvas. Only the rows that the result needs are stored between the two passes,
/// and only the picture's own pixels are read. The canvas may be far larger than the picture: a picture one
/// pixel wide can be on a square of its height (law L9).
pub(super) fn resize_canvas(
    canvas: &WhiteCanvas<'_>,
    whole: [u32; 2],
    start: [u32; 2],
    size: [u32; 2],
) -> RgbImage {
    let columns = taps(canvas.size[0], whole[0], start[0], size[0]);
    let rows = taps(canvas.size[1], whole[1], start[1], size[1]);
    let end = |taps: &BicubicTaps| taps.first + u32::try_from(taps.weights.len()).unwrap_or(0);
    let top = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let bottom = rows.iter().map(end).max().unwrap_or(0).max(top);
    let (image, [left, above]) = (canvas.image, canvas.offset);
    let inside = |y: u32| {
        let is_row = (above..above + image.height()).contains(&y);
        left..left + if is_row { image.width() } else { 0 }
    };
    let across = RgbImage::from_fn(size[0], bottom - top, |x, y| {
        let y = top + y;
        weighted(&columns[x as usize], inside(y), |at| {
            image.get_pixel(at - left, y - above).0
        })
    });
    RgbImage::from_fn(size[0], size[1], |x, y| {
        weighted(&rows[y as usize], top..bottom, |at| {
            across.get_pixel(x, at - top).0
        })
    })
}

/// The input pixels of one output pixel of a line: the first one, and the weights from there on.
struct BicubicTaps {
    first: u32,
    weights: Vec<i64>,
    /// The sum of the weights.
    sum: i64,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // pixels of a line, and weights of a few units
fn taps(from: u32, to: u32, start: u32, size: u32) -> Vec<BicubicTaps> {
    if from == to {
        let itself = |first| BicubicTaps {
            first,
            weights: vec![1 << PRECISION],
            sum: 1 << PRECISION,
        };
        return (start..start + size).map(itself).collect();
    }
    let scale = f64::from(from) / f64::from(to);
    let spread = scale.max(1.0);
    let one = |at: u32| {
        let centre = (f64::from(at) + 0.5) * scale;
        let first = (centre - REACH * spread + 0.5).max(0.0) as u32;
        let end = ((centre + REACH * spread + 0.5) as u32).min(from);
        let weight = |pixel: u32| kernel((f64::from(pixel) - centre + 0.5) / spread);
        let sum: f64 = (first..end).map(weight).sum();
        let fixed = |pixel: u32| (weight(pixel) / sum * f64::from(1 << PRECISION)).round() as i64;
        let weights: Vec<i64> = (first..end).map(fixed).collect();
        BicubicTaps {
            first,
            sum: weights.iter().sum(),
            weights,
        }
    };
    (start..start + size).map(one).collect()
}

/// Keys' cubic kernel with a = -1/2.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Returns the weighted sum of a line's pixels. Pixels outside `inside` are white.
fn weighted(taps: &BicubicTaps, inside: Range<u32>, pixel: impl Fn(u32) -> [u8; 3]) -> image::Rgb<u8> {
    const WHITE: i64 = 255;
    let mut sums = [(1i64 << (PRECISION - 1)) + WHITE * taps.sum; 3];
    let skipped = inside.start.saturating_sub(taps.first) as usize;
    let first = inside.start.max(taps.first);
    for (at, weight) in (first..inside.end).zip(taps.weights.iter().skip(skipped)) {
        for (sum, value) in sums.iter_mut().zip(pixel(at)) {
            *sum += (i64::from(value) - WHITE) * weight;
        }
    }
    image::Rgb(sums.map(|sum| u8::try_from((sum >> PRECISION).clamp(0, 255)).unwrap_or(u8::MAX)))
}
