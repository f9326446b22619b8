//! Pillow's bicubic interpolation of 8-bit pictures, to the bit: what published preprocessing resizes with.
//!
//! Across first, then down, 8 bits in between, weights in fixed point. A picture that becomes smaller is read whole: the
//! kernel grows with it. A tokenizer turns values near zero into bits, so that one level more or less can be another code.

use image::RgbImage;

/// Bits behind the point of a weight.
const PRECISION: u32 = 22;
/// How far the kernel reaches, in pixels of the smaller picture.
const REACH: f64 = 2.0;

/// The picture at another size.
#[must_use]
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    resize_part(image, [width, height], [0, 0], [width, height])
}

/// A part of the picture at another size: what is cut away is not computed.
#[must_use]
pub fn resize_part(image: &RgbImage, whole: [u32; 2], start: [u32; 2], size: [u32; 2]) -> RgbImage {
    let pixel = |x, y| image.get_pixel(x, y).0;
    resize_pixels([image.width(), image.height()], pixel, whole, start, size)
}

/// The same of a picture that is known pixel by pixel; `from` are its sides. Only the rows that count are kept in between.
pub(super) fn resize_pixels(
    from: [u32; 2],
    pixel: impl Fn(u32, u32) -> [u8; 3],
    whole: [u32; 2],
    start: [u32; 2],
    size: [u32; 2],
) -> RgbImage {
    let columns = taps(from[0], whole[0], start[0], size[0]);
    let rows = taps(from[1], whole[1], start[1], size[1]);
    let end = |taps: &BicubicTaps| taps.first + u32::try_from(taps.weights.len()).unwrap_or(0);
    let top = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let bottom = rows.iter().map(end).max().unwrap_or(0).max(top);
    let across = RgbImage::from_fn(size[0], bottom - top, |x, y| {
        weighted(&columns[x as usize], |at| pixel(at, top + y))
    });
    RgbImage::from_fn(size[0], size[1], |x, y| {
        weighted(&rows[y as usize], |at| across.get_pixel(x, at - top).0)
    })
}

/// Which pixels of a line make one of the new line: the first, and the weight of each from there on.
struct BicubicTaps {
    first: u32,
    weights: Vec<i64>,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // pixels of a line, and weights of a few units
fn taps(from: u32, to: u32, start: u32, size: u32) -> Vec<BicubicTaps> {
    if from == to {
        let itself = |first| BicubicTaps {
            first,
            weights: vec![1 << PRECISION],
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
        BicubicTaps {
            first,
            weights: (first..end).map(fixed).collect(),
        }
    };
    (start..start + size).map(one).collect()
}

/// Keys' kernel with a = -1/2.
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

fn weighted(taps: &BicubicTaps, pixel: impl Fn(u32) -> [u8; 3]) -> image::Rgb<u8> {
    let mut sums = [1i64 << (PRECISION - 1); 3];
    for (at, weight) in (taps.first..).zip(&taps.weights) {
        for (sum, value) in sums.iter_mut().zip(pixel(at)) {
            *sum += i64::from(value) * weight;
        }
    }
    image::Rgb(sums.map(|sum| u8::try_from((sum >> PRECISION).clamp(0, 255)).unwrap_or(u8::MAX)))
}
