//! A picture through a JPEG file and back, as a harness that keeps its pictures so shows them to a model: quality 75 and colours at half
//! of each side, the mean of four pixels, which is Pillow's default.

use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

/// Pillow's default.
const QUALITY: u8 = 75;

/// The picture after it was written and read.
///
/// # Errors
/// In words: sides that JPEG has not.
pub fn round_trip(image: &RgbImage) -> Result<RgbImage, String> {
    let (width, height) = image.dimensions();
    let (Ok(across), Ok(down)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(format!(
            "a picture of {width} x {height}; JPEG has at most 65535 a side"
        ));
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(image, across, down, ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    let read = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg);
    Ok(read.map_err(|error| error.to_string())?.to_rgb8())
}
