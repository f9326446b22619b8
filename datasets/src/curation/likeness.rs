//! What a picture shows, in 128 bits that scaling, another quality of JPEG or another format change little.
//!
//! Two perceptual hashes of 64 bits (`image_hasher`): signs of the low frequencies of the cosine transform against their
//! median, and signs of the differences of neighbours along the rows. Two pictures are of one likeness when both hashes are
//! near; either alone takes unlike pictures for like. A picture that is nearly of one colour has no likeness: its signs are noise.
//! Cropping is not withstood.

use demask_api::Picture;
use image::DynamicImage;
use image_hasher::{HashAlg, Hasher, HasherConfig};

/// The most of the transform's 64 signs that may differ.
const NEAR_FREQUENCIES: u32 = 7;
/// The most of the differences' 64 signs that may differ.
const NEAR_DIFFERENCES: u32 = 9;
/// The least deviation of the pixels' brightness, of 255: less is a blank sheet.
const LEAST_DEVIATION: f64 = 6.0;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Likeness {
    frequencies: u64,
    differences: u64,
}

impl Likeness {
    /// The likeness of a picture in memory; none of a blank one.
    #[must_use]
    pub fn of(picture: &Picture) -> Option<Self> {
        let (width, height) = (
            u32::try_from(picture.width).ok()?,
            u32::try_from(picture.height).ok()?,
        );
        let image = image::RgbImage::from_raw(width, height, picture.rgb.clone())?;
        Self::of_image(&DynamicImage::ImageRgb8(image))
    }

    /// The likeness of a decoded picture; none of a blank one.
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

    /// The likeness as a number.
    #[must_use]
    pub fn bits(&self) -> u128 {
        (u128::from(self.frequencies) << 64) | u128::from(self.differences)
    }

    /// The likeness of such a number.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_bits(bits: u128) -> Self {
        Self {
            frequencies: (bits >> 64) as u64,
            differences: bits as u64,
        }
    }

    /// Whether both are of one picture.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        (self.frequencies ^ other.frequencies).count_ones() <= NEAR_FREQUENCIES
            && (self.differences ^ other.differences).count_ones() <= NEAR_DIFFERENCES
    }
}
