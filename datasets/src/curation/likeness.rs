//! The likeness of a picture: a 128-bit perceptual hash that changes little under scaling, JPEG quality or another
//! format.
//!
//! It joins two hashes of 64 bits (crate `image_hasher`): the signs of the low DCT frequencies against their median,
//! and the signs of the differences of horizontal neighbours. Two pictures match only when both hashes are near,
//! because either alone matches pictures that are unlike. A picture of nearly one colour has no likeness: its signs are
//! noise. The likeness does not withstand cropping.

use demask_api::Picture;
use image::DynamicImage;
use image_hasher::{HashAlg, Hasher, HasherConfig};

/// The largest Hamming distance of two matching DCT hashes, of 64 bits.
const NEAR_FREQUENCIES: u32 = 7;
/// The largest Hamming distance of two matching difference hashes, of 64 bits.
const NEAR_DIFFERENCES: u32 = 9;
/// The least standard deviation of the pixels' brightness (0 to 255); a picture below it counts as blank.
const LEAST_DEVIATION: f64 = 6.0;

/// The perceptual hash of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Likeness {
    frequencies: u64,
    differences: u64,
}

impl Likeness {
    /// Computes the likeness of a picture in memory; `None` if it is blank.
    #[must_use]
    pub fn of(picture: &Picture) -> Option<Self> {
        let (width, height) = (
            u32::try_from(picture.width).ok()?,
            u32::try_from(picture.height).ok()?,
        );
        let image = image::RgbImage::from_raw(width, height, picture.rgb.clone())?;
        Self::of_image(&DynamicImage::ImageRgb8(image))
    }

    /// Computes the likeness of a decoded picture; `None` if it is blank.
    #[must_use]
    pub fn of_image(image: &DynamicImage) -> Option<Self> {
        let grey = image.to_luma8();
        let count = grey.len().max(1) as f64;
        let mean = grey.iter().map(|one| f64::from(*one)).sum::<f64>() / count;
        let squares = grey
            .iter()
            .map(|one| (f64::from(*one) - mean).powi(2))
            .sum::<f64>();
        if (squares / count).sqrt() < LEAST_DEVIATION {
            return None;
        }
        let hashed = |hasher: Hasher| {
            let hash = hasher.hash_image(image);
            hash.as_bytes()
                .iter()
                .fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte))
        };
        let base = || HasherConfig::new().hash_size(8, 8);
        Some(Self {
            frequencies: hashed(base().hash_alg(HashAlg::Median).preproc_dct().to_hasher()),
            differences: hashed(base().hash_alg(HashAlg::Gradient).to_hasher()),
        })
    }

    /// Returns the likeness as a number.
    #[must_use]
    pub fn bits(&self) -> u128 {
        (u128::from(self.frequencies) << 64) | u128::from(self.differences)
    }

    /// Makes the likeness of a number that [`Self::bits`] returned.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_bits(bits: u128) -> Self {
        Self {
            frequencies: (bits >> 64) as u64,
            differences: bits as u64,
        }
    }

    /// Whether both are likenesses of the same picture.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        (self.frequencies ^ other.frequencies).count_ones() <= NEAR_FREQUENCIES
            && (self.differences ^ other.differences).count_ones() <= NEAR_DIFFERENCES
    }
}
