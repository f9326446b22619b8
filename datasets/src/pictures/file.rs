//! A picture of a file, made square and as large as the model takes it.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use demask_api::{Picture, bounded_file};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageReader, RgbImage};

/// Decodes PNG or JPEG, whatever the file's name ends in. What is transparent lies over white, as on paper.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded, or is beyond the limits (law L9).
pub fn decode(path: &Path) -> Result<DynamicImage, String> {
    decode_over(path, [255; 3])
}

/// Decodes a picture file, with what is transparent over this colour: a mask's over black, for nothing is painted there.
///
/// # Errors
/// The file cannot be read or is no picture.
pub fn decode_over(path: &Path, ground: [u8; 3]) -> Result<DynamicImage, String> {
    let file = bounded_file::open(path).map(|file| ImageReader::new(BufReader::new(file)));
    let reader = file.and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| named(path, &error))?;
    decoded(reader, ground).map_err(|why| named(path, &why))
}

/// Bytes that a decoded picture may have (law L9): 67 million pixels of eight-bit colour.
const MOST_BYTES: u64 = 192 << 20;
/// Pixels of a side.
const LONGEST_SIDE: u32 = 1 << 15;

/// Decodes a picture, with what is transparent over a colour.
fn decoded<R: BufRead + Seek>(reader: ImageReader<R>, ground: [u8; 3]) -> Result<DynamicImage, String> {
    Ok(laid_over(within_limits(reader)?, ground))
}

/// Decodes a picture whose head says that it is within the limits: nothing is asked for before that is known.
fn within_limits<R: BufRead + Seek>(mut reader: ImageReader<R>) -> Result<DynamicImage, String> {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(2 * MOST_BYTES);
    reader.limits(limits);
    let broken = |error: image::ImageError| format!("a PNG or JPEG picture was expected: {error}");
    let decoder = reader.into_decoder().map_err(broken)?;
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    if width.max(height) > LONGEST_SIDE || bytes > MOST_BYTES {
        return Err(format!(
            "a picture of {width} x {height} pixels, {bytes} bytes when it is decoded; at most {LONGEST_SIDE} pixels a side and \
             {MOST_BYTES} bytes are read"
        ));
    }
    DynamicImage::from_decoder(decoder).map_err(broken)
}

/// A picture without transparency: what is seen when it lies over a ground.
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
    // In place: a pixel's three bytes lie never behind its four.
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

/// Reads PNG or JPEG: the middle square, scaled to `pixels` a side.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded, or has no pixel.
pub fn read(path: &Path, pixels: usize) -> Result<Picture, String> {
    square(&decode(path)?, pixels).map_err(|why| named(path, &why))
}

/// A PNG's or JPEG's bytes: the middle square, scaled to `pixels` a side.
///
/// # Errors
/// In words: they are no picture, or one without pixels.
pub fn read_bytes(bytes: &[u8], pixels: usize) -> Result<Picture, String> {
    square(&decode_bytes(bytes)?, pixels)
}

/// Decodes a PNG's or JPEG's bytes, with what is transparent over white.
///
/// # Errors
/// In words: they are no picture.
pub fn decode_bytes(bytes: &[u8]) -> Result<DynamicImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    decoded(reader.map_err(|error| error.to_string())?, [255; 3])
}

/// Decodes a PNG's or JPEG's bytes, without what says how transparent a pixel is.
///
/// # Errors
/// In words: they are no picture.
pub fn decode_opaque(bytes: &[u8]) -> Result<RgbImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    Ok(within_limits(reader.map_err(|error| error.to_string())?)?.into_rgb8())
}

fn square(image: &DynamicImage, pixels: usize) -> Result<Picture, String> {
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    if side == 0 {
        return Err("a picture without pixels".to_owned());
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

/// A picture as PNG; empty bytes for one whose numbers do not fit its size.
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
