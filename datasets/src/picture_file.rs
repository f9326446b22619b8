//! A picture of a file, made square and as large as the model takes it.

use std::path::Path;

use demask_api::Picture;
use image::DynamicImage;
use image::imageops::FilterType;

/// Decodes PNG or JPEG, whatever the file's name ends in.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded.
pub fn decode(path: &Path) -> Result<DynamicImage, String> {
    let reader = image::ImageReader::open(path).and_then(image::ImageReader::with_guessed_format);
    let reader = reader.map_err(|error| named(path, &error))?;
    reader
        .decode()
        .map_err(|error| named(path, &format!("a PNG or JPEG picture was expected: {error}")))
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// Reads PNG or JPEG: the middle square, scaled to `pixels` a side.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded, or has no pixel.
pub fn read(path: &Path, pixels: usize) -> Result<Picture, String> {
    let image = decode(path)?;
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    if side == 0 {
        return Err(named(path, &"a picture without pixels"));
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
