//! Output of pictures: half-block characters on the terminal, as large as it permits, and PNG files.

use std::path::Path;

use anyhow::{Context as _, bail};
use demask_api::{Picture, limits, work_file};
use demask_datasets::tabletop::render::PIXELS;
use image::RgbImage;
use image::imageops::{FilterType, resize, thumbnail};

use crate::exit::UsageError;

/// Returns the default enlargement of a picture with this longer side.
#[must_use]
pub fn scale(side: usize) -> u32 {
    u32::try_from(8 * PIXELS / side.max(1)).unwrap_or(1).clamp(1, 8)
}

/// Checks the name of an output file, before the model is loaded and not after the picture is drawn.
///
/// # Errors
/// An error if the name is a folder, has another ending than `.png`, is a link or a device, or lies in a folder that
/// does not exist.
pub fn check_output(path: &Path) -> anyhow::Result<()> {
    let refuse = |why: &str| Err(UsageError(format!("--output {}: {why}", path.display())).into());
    let png = |extension: &std::ffi::OsStr| extension.eq_ignore_ascii_case("png");
    if path.is_dir() || path.file_name().is_none() {
        return refuse("is a folder; expected the name of a PNG file");
    }
    if !path.extension().is_none_or(png) {
        return refuse("pictures are written as PNG; expected a name that ends in .png");
    }
    if let Err(error) = work_file::is_free(path) {
        return refuse(&error.to_string());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        bail!(
            "{}: there is no such folder to write the picture to",
            missing.display()
        );
    }
    Ok(())
}

/// Returns the width and height in half-block pixels for which the terminal has room, with one line left for text.
#[must_use]
pub fn room() -> (u32, u32) {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map_or((80, 46), |(width, height)| {
        (width.0.into(), 2 * u32::from(height.0.saturating_sub(1)))
    })
}

/// Returns the picture, reduced in size if it is larger than this many pixels in width or height. Its aspect ratio
/// stays.
#[must_use]
pub fn within(picture: &Picture, width: u32, height: u32) -> Picture {
    let Some(whole) = as_image(picture).filter(|whole| whole.width() > width || whole.height() > height)
    else {
        return picture.clone();
    };
    let (wide, high) = (u64::from(whole.width()), u64::from(whole.height()));
    let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (wide, high) = if wide * height > high * width {
        (width, (high * width / wide).max(1))
    } else {
        ((wide * height / high).max(1), height)
    };
    let (Ok(wide), Ok(high)) = (u32::try_from(wide), u32::try_from(high)) else {
        return picture.clone();
    };
    Picture {
        width: wide as usize,
        height: high as usize,
        rgb: thumbnail(&whole, wide, high).into_raw(),
    }
}

fn as_image(picture: &Picture) -> Option<RgbImage> {
    let (width, height) = (
        u32::try_from(picture.width).ok()?,
        u32::try_from(picture.height).ok()?,
    );
    RgbImage::from_raw(width, height, picture.rgb.clone())
}

/// Formats a picture in half-block characters, two pixels per character.
#[must_use]
pub fn half_blocks(picture: &Picture) -> String {
    let mut text = String::new();
    for y in (0..picture.height).step_by(2) {
        for x in 0..picture.width {
            let ([r, g, b], [s, h, c]) = (picture.at(x, y), picture.at(x, y + 1));
            text.push_str(&format!("\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m▀"));
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

/// Writes a picture as PNG, enlarged this many times without smoothing.
///
/// # Errors
/// An error with the file's name if it cannot be written. Then no file is left behind. An error with both numbers if the
/// enlarged picture has too many pixels.
pub fn save(picture: &Picture, scale: u32, path: &Path) -> anyhow::Result<()> {
    let image = as_image(picture).context("the picture has the wrong size")?;
    let (width, height) = enlarged(&image, scale)?;
    let large = resize(&image, width, height, FilterType::Nearest);
    // Written to a work file and renamed, so that the picture is complete or absent.
    work_file::sweep(path);
    let work = work_file::beside(path);
    let file = work_file::create(&work).with_context(|| path.display().to_string())?;
    let mut out = std::io::BufWriter::new(file);
    let written = large.write_to(&mut out, image::ImageFormat::Png);
    let written = written.map_err(anyhow::Error::from);
    let written = written.and_then(|()| Ok(out.into_inner().map(drop)?));
    let written = written.and_then(|()| Ok(work_file::settle(&work, path)?));
    if written.is_err() {
        std::fs::remove_file(&work).ok();
    }
    written.with_context(|| path.display().to_string())
}

/// Returns the width and height of an enlarged picture, unless it has too many pixels (law L9).
fn enlarged(image: &RgbImage, scale: u32) -> Result<(u32, u32), UsageError> {
    let sides = image
        .width()
        .checked_mul(scale)
        .zip(image.height().checked_mul(scale));
    let few = |sides: &(u32, u32)| u64::from(sides.0) * u64::from(sides.1) <= limits::MOST_WRITTEN_PIXELS;
    sides.filter(few).ok_or_else(|| {
        UsageError(format!(
            "--scale {scale}: a picture of {}x{} pixels would have more than {} pixels",
            image.width(),
            image.height(),
            limits::MOST_WRITTEN_PIXELS
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l9_a_picture_is_enlarged_up_to_the_limit_of_pixels() {
        let image = RgbImage::new(8192, 4);
        assert_eq!(enlarged(&image, 45).unwrap(), (368_640, 180));
        let refused = enlarged(&image, 64).unwrap_err().to_string();
        assert!(
            refused.contains("--scale 64") && refused.contains("67108864"),
            "{refused}"
        );
    }

    #[test]
    fn a_picture_too_large_for_the_terminal_keeps_its_shape() {
        let wide = Picture::filled(768, 512, [9, 8, 7]);
        for (room, expected) in [
            ((80, 46), (69, 46)),
            ((60, 400), (60, 40)),
            ((768, 512), (768, 512)),
        ] {
            let small = within(&wide, room.0, room.1);
            assert_eq!((small.width, small.height), expected);
            assert!(small.rgb.chunks_exact(3).all(|pixel| pixel == [9, 8, 7]));
        }
        let lines = half_blocks(&within(&wide, 60, 400));
        assert_eq!(lines.lines().count(), 20);
        assert!(lines.lines().all(|line| line.matches('▀').count() == 60));
    }
}
