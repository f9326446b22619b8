//! A picture of a file, made square and as large as the model takes it.

use std::path::Path;

use demask_api::Picture;
use image::imageops::FilterType;

/// Reads PNG or JPEG: the middle square, scaled to `pixels` a side.
///
/// # Errors
/// In words, naming the file: it cannot be read or decoded, or has no pixel.
pub fn read(path: &Path, pixels: usize) -> Result<Picture, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let reader = image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(|error| named(&error))?;
    let image = reader
        .decode()
        .map_err(|error| named(&format!("a PNG or JPEG picture was expected: {error}")))?;
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    if side == 0 {
        return Err(named(&"a picture without pixels"));
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
