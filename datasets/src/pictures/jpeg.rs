//! A round trip through a JPEG file, for evaluation harnesses that store their pictures so. It uses Pillow's defaults:
//! quality 75 and chroma subsampled to half of each side, as the mean of four pixels (4:2:0).

use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

/// Pillow's default quality.
const QUALITY: u8 = 75;

/// Encodes a picture as JPEG and decodes it again.
///
/// # Errors
/// A message if a side exceeds what JPEG allows.
pub fn round_trip(image: &RgbImage) -> Result<RgbImage, String> {
    let (width, height) = image.dimensions();
    let (Ok(across), Ok(down)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(format!(
            "the picture has {width} x {height} pixels; JPEG allows at most 65535 a side"
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
