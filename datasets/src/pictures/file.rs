//! Picture files: decoding within limits (law L9), cropping to the model's square, and writing PNG.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use demask_api::{Picture, bounded_file};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageReader, RgbImage};

/// Decodes a PNG or JPEG file, whatever its name ends in. Transparent pixels are blended over white.
///
/// # Errors
/// A message that names the file, if it cannot be read or decoded or exceeds the limits (law L9).
pub fn decode(path: &Path) -> Result<DynamicImage, String> {
    decode_over(path, [255; 3])
}

/// Decodes a picture file with transparent pixels blended over `ground`. Masks use black, because nothing is painted
/// where they are transparent.
///
/// # Errors
/// A message if the file cannot be read or is not a picture.
pub fn decode_over(path: &Path, ground: [u8; 3]) -> Result<DynamicImage, String> {
    let file = bounded_file::open(path).map(|file| ImageReader::new(BufReader::new(file)));
    let reader = file.and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| named(path, &error))?;
    decoded(reader, ground).map_err(|why| named(path, &why))
}

/// The most bytes of a decoded picture (law L9): 67 million pixels of eight-bit colour.
const MOST_BYTES: u64 = 192 << 20;
/// The most pixels of a side.
const LONGEST_SIDE: u32 = 1 << 15;

/// Decodes a picture with transparent pixels blended over `ground`.
fn decoded<R: BufRead + Seek>(reader: ImageReader<R>, ground: [u8; 3]) -> Result<DynamicImage, String> {
    Ok(laid_over(within_limits(reader)?, ground))
}

/// Decodes a picture after checking the sizes in its header against the limits; no larger memory is allocated before.
fn within_limits<R: BufRead + Seek>(mut reader: ImageReader<R>) -> Result<DynamicImage, String> {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(2 * MOST_BYTES);
    reader.limits(limits);
    let broken = |error: image::ImageError| format!("a PNG or JPEG picture was expected: {error}");
    let decoder = reader.into_decoder().map_err(broken)?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    if width.max(height) > LONGEST_SIDE || bytes > MOST_BYTES {
        return Err(format!(
            "the picture has {width} x {height} pixels and {bytes} decoded bytes; expected at most {LONGEST_SIDE} pixels a side \
             and {MOST_BYTES} bytes"
        ));
    }
    DynamicImage::from_decoder(decoder).map_err(broken)
}

/// Blends a picture with an alpha channel over `ground`.
fn laid_over(image: DynamicImage, ground: [u8; 3]) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let mix = |over: u8, under: u8, alpha: u8| {
        let (over, under, alpha) = (u32::from(over), u32::from(under), u32::from(alpha));
        u8::try_from((over * alpha + under * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
    };
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let mut bytes = image.into_raw();
    // In place: the three output bytes of a pixel never lie behind its four input bytes.
    for pixel in 0..bytes.len() / 4 {
        let alpha = bytes[4 * pixel + 3];
        for (channel, &under) in ground.iter().enumerate() {
            bytes[3 * pixel + channel] = mix(bytes[4 * pixel + channel], under, alpha);
        }
    }
    bytes.truncate(bytes.len() / 4 * 3);
    RgbImage::from_raw(width, height, bytes).map_or_else(DynamicImage::default, DynamicImage::ImageRgb8)
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// Reads a PNG or JPEG file and scales its central square to `pixels` a side.
///
/// # Errors
/// A message that names the file, if it cannot be read or decoded or has no pixel.
pub fn read(path: &Path, pixels: usize) -> Result<Picture, String> {
    square(&decode(path)?, pixels).map_err(|why| named(path, &why))
}

/// Decodes PNG or JPEG bytes and scales the central square to `pixels` a side.
///
/// # Errors
/// A message if the bytes are not a picture or the picture has no pixel.
pub fn read_bytes(bytes: &[u8], pixels: usize) -> Result<Picture, String> {
    square(&decode_bytes(bytes)?, pixels)
}

/// Decodes PNG or JPEG bytes with transparent pixels blended over white.
///
/// # Errors
/// A message if the bytes are not a picture.
pub fn decode_bytes(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    decoded(reader.map_err(|error| error.to_string())?, [255; 3])
}

/// Decodes PNG or JPEG bytes and drops the alpha channel.
///
/// # Errors
/// A message if the bytes are not a picture.
pub fn decode_opaque(bytes: &[u8]) -> Result<RgbImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    Ok(within_limits(reader.map_err(|error| error.to_string())?)?.into_rgb8())
}

fn square(image: &DynamicImage, pixels: usize) -> Result<Picture, String> {
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    if side == 0 {
        return Err("the picture has no pixels".to_owned());
    }
    let square = image.crop_imm((width - side) / 2, (height - side) / 2, side, side);
    let size = u32::try_from(pixels).unwrap_or(u32::MAX);
    let scaled = if side == size {
        square.to_rgb8()
    } else {
        square.resize_exact(size, size, FilterType::Triangle).to_rgb8()
    };
    Ok(Picture {
        width: pixels,
        height: pixels,
        rgb: scaled.into_raw(),
    })
}

/// Encodes a picture as PNG; empty if its pixel count does not match its size.
#[must_use]
pub fn png(picture: &Picture) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    #[allow(clippy::cast_possible_truncation)]
    let (width, height) = (picture.width as u32, picture.height as u32);
    if let Some(image) = image::RgbImage::from_raw(width, height, picture.rgb.clone()) {
        image.write_to(&mut bytes, image::ImageFormat::Png).ok();
    }
    bytes.into_inner()
}
