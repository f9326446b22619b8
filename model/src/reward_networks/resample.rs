//! Pillow's resizing of 8-bit pictures, bit for bit. The published preprocessing uses it, and the reward networks were
//! trained with it.
//!
//! The horizontal pass comes first, then the vertical one. Each rounds to 8 bits and has fixed-point weights
//! (`src/libImaging/Resample.c` up to version 12). Version 13 swaps the passes where that is less work, which changes
//! some values by one level.

use demask_api::Picture;

/// The number of fractional bits of a weight.
const BITS: u32 = 32 - 8 - 2;

/// A resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Linear interpolation, number 2.
    Bilinear,
    /// Cubic interpolation with a = -0.5, number 3.
    Bicubic,
}

impl Filter {
    /// Returns the filter with a number of Pillow's and of `preprocessor_config.json`, or `None` if it is not
    /// implemented.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Bilinear),
            3 => Some(Self::Bicubic),
            _ => None,
        }
    }

    /// Returns the radius of the filter, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// Evaluates the filter at a distance.
    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic => 0.0,
        }
    }
}

/// The inputs of one output pixel of a line: the index of the first input pixel, and the weights of it and those after
/// it.
struct Taps {
    first: usize,
    weights: Vec<i64>,
}

/// Computes the taps of a line of `to` pixels that is made from one of `from` pixels.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        // The cast truncates as C's does, and a negative number becomes 0.
        let first = (centre - support + 0.5) as usize;
        let last = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..last)
            .map(|x| filter.at((x as f64 - centre + 0.5) / stretch))
            .collect();
        let sum: f64 = raw.iter().sum();
        let weights = raw
            .iter()
            .map(|&weight| fixed(if sum == 0.0 { weight } else { weight / sum }));
        Taps {
            first,
            weights: weights.collect(),
        }
    };
    (0..to).map(one).collect()
}

/// Converts a weight to fixed point. Halves are rounded away from zero.
#[allow(clippy::cast_possible_truncation)]
fn fixed(weight: f64) -> i64 {
    let scaled = weight * f64::from(1u32 << BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i64
}

/// Resizes a picture.
pub(super) fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Picture {
    let wide = if picture.width == width {
        picture.clone()
    } else {
        across(picture, width, filter)
    };
    if wide.height == height {
        wide
    } else {
        down(&wide, height, filter)
    }
}

/// Resizes the rows of a picture.
fn across(picture: &Picture, width: usize, filter: Filter) -> Picture {
    let taps = taps(picture.width, width, filter);
    let mut rgb = Vec::with_capacity(3 * width * picture.height);
    for row in picture.rgb.chunks_exact(3 * picture.width) {
        for taps in &taps {
            rgb.extend((0..3).map(|channel| {
                let pixels = row[3 * taps.first..].chunks_exact(3);
                mixed(taps, pixels.map(|pixel| pixel[channel]))
            }));
        }
    }
    Picture {
        width,
        height: picture.height,
        rgb,
    }
}

/// Resizes the columns of a picture.
fn down(picture: &Picture, height: usize, filter: Filter) -> Picture {
    let row = 3 * picture.width;
    let mut rgb = Vec::with_capacity(row * height);
    for taps in taps(picture.height, height, filter) {
        rgb.extend((0..row).map(|at| {
            let column = picture.rgb[row * taps.first + at..].iter().step_by(row);
            mixed(&taps, column.copied())
        }));
    }
    Picture {
        width: picture.width,
        height,
        rgb,
    }
}

/// Computes one output value from its input pixels.
fn mixed(taps: &Taps, bytes: impl Iterator<Item = u8>) -> u8 {
    let half = 1i64 << (BITS - 1);
    let sum = taps
        .weights
        .iter()
        .zip(bytes)
        .fold(half, |sum, (weight, byte)| sum + weight * i64::from(byte));
    u8::try_from((sum >> BITS).clamp(0, 255)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// Returns the input picture of the recording.
    fn given(width: usize, height: usize) -> Picture {
        let byte = |at: usize| ((at * at * 7 + at * 13 + 5) % 251) as u8;
        Picture {
            width,
            height,
            rgb: (0..3 * width * height).map(byte).collect(),
        }
    }

    #[test]
    fn sizes_and_filters_as_pillow_resizes_them() {
        let recorded = include_str!("../../tests/fixtures/pillow.json");
        let cases: Vec<(usize, usize, usize, usize, u8, String)> = serde_json::from_str(recorded).unwrap();
        assert!(cases.len() >= 12);
        for (from_width, from_height, width, height, filter, expected) in cases {
            let filter = Filter::numbered(filter).unwrap();
            let found = resize(&given(from_width, from_height), width, height, filter);
            let text = serde_json::to_value(&found).unwrap();
            let case = format!("{from_width} x {from_height} to {width} x {height}, {filter:?}");
            assert_eq!(text["rgb"], expected.as_str(), "{case}");
        }
    }
}
