//! A picture of a file, made square and as large as the model takes it.

use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

use demask_api::Picture;
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Rgb, RgbImage};

/// Decodes PNG or JPEG, whatever the file's name ends in. What is transparent lies over white, as on paper.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded.
pub fn decode(path: &Path) -> Result<DynamicImage, String> {
    decode_over(path, [255; 3])
}

/// Decodes a picture file, with what is transparent over this colour: a mask's over black, for nothing is painted there.
///
/// # Errors
/// The file cannot be read or is no picture.
pub fn decode_over(path: &Path, ground: [u8; 3]) -> Result<DynamicImage, String> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| named(path, &error))?;
    decoded(reader, ground).map_err(|why| named(path, &why))
}

/// The most pixels of a picture from outside (law L9): what Pillow takes for a bomb.
const MOST_PIXELS: u64 = 178_956_970;

fn decoded<R: BufRead + Seek>(mut reader: ImageReader<R>, ground: [u8; 3]) -> Result<DynamicImage, String> {
    reader.limits(limits());
    let image = reader
        .decode()
        .map_err(|error| format!("a PNG or JPEG picture was expected: {error}"))?;
    Ok(laid_over(image, ground))
}

fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MOST_PIXELS * 4);
    limits
}

/// A picture without transparency: what is seen when it lies over a ground.
fn laid_over(image: DynamicImage, ground: [u8; 3]) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let image = image.to_rgba8();
    let mix = |over: u8, under: u8, alpha: u8| {
        let (over, under, alpha) = (u32::from(over), u32::from(under), u32::from(alpha));
        u8::try_from((over * alpha + under * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
    };
    DynamicImage::ImageRgb8(RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let [under_red, under_green, under_blue] = ground;
        Rgb([
            mix(red, under_red, alpha),
            mix(green, under_green, alpha),
            mix(blue, under_blue, alpha),
        ])
    }))
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
    let mut reader = reader.map_err(|error| error.to_string())?;
    reader.limits(limits());
    let image = reader
        .decode()
        .map_err(|error| format!("a PNG or JPEG picture was expected: {error}"))?;
    Ok(image.to_rgb8())
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
