//! The parts of a picture that are drawn anew: `demask imagine --from PICTURE` with `--mask MASK` or `--outpaint`.

use std::path::Path;

use demask_api::{Grid, Picture, PictureSize};
use demask_datasets::pictures::file::{decode, decode_over};
use demask_datasets::pictures::fit::{Fit, fit};
use image::{GenericImageView as _, RgbImage};

use crate::exit::UsageError;

/// A picture, with the parts of it that are drawn anew.
#[derive(Debug)]
pub struct Canvas {
    /// The picture in the size that the model reads.
    pub picture: Picture,
    /// The mask in the same size: light pixels are drawn anew.
    mask: Picture,
}

impl Canvas {
    /// Reads both files and resizes them in the same way. Where the mask is transparent, nothing is drawn.
    ///
    /// # Errors
    /// An error if a file cannot be decoded; an error with both sizes if the pictures differ in size.
    pub fn read(from: &Path, mask: &Path, size: PictureSize, sharp: bool) -> anyhow::Result<Self> {
        let picture = decode(from).map_err(anyhow::Error::msg)?;
        let shape = decode_over(mask, [0; 3]).map_err(anyhow::Error::msg)?;
        if picture.dimensions() != shape.dimensions() {
            let ((w, h), (v, g)) = (picture.dimensions(), shape.dimensions());
            let message = format!(
                "--mask {}: the mask has {v}x{g} pixels, expected {w}x{h} as in the picture",
                mask.display()
            );
            return Err(UsageError(message).into());
        }
        Ok(Self {
            picture: fit(&picture, size, Fit::Crop, sharp),
            mask: fit(&shape, size, Fit::Crop, sharp),
        })
    }

    /// Reads a picture and places it unscaled in one of this size, the rest of which is to be drawn. Its upper left
    /// corner is at the place, or, centred, at a whole code of `pixels` per side. If `sharp`, a picture that was
    /// enlarged by a whole factor (as `imagine` writes small pictures) is reduced to its original size first.
    ///
    /// # Errors
    /// An error if the file cannot be decoded, or if the picture reaches beyond the size, fills it, or covers no whole
    /// code.
    pub fn around(
        from: &Path,
        size: PictureSize,
        place: Option<(usize, usize)>,
        pixels: usize,
        sharp: bool,
    ) -> anyhow::Result<Self> {
        let image = decode(from).map_err(anyhow::Error::msg)?.to_rgb8();
        let image = if sharp { reduced(image, pixels) } else { image };
        let picture = Picture {
            width: image.width() as usize,
            height: image.height() as usize,
            rgb: image.into_raw(),
        };
        let middle = |whole: usize, part: usize| whole.saturating_sub(part) / 2 / pixels * pixels;
        let corner = place.unwrap_or_else(|| {
            (
                middle(size.width, picture.width),
                middle(size.height, picture.height),
            )
        });
        check_place(picture.size(), corner, size, pixels).map_err(|why| {
            let (file, width, height) = (from.display(), picture.width, picture.height);
            UsageError(format!("--outpaint: {file} has {width}x{height} pixels, {why}"))
        })?;
        Ok(Self::standing(&picture, corner, size))
    }

    /// Places a picture. The area that it does not cover is open, and repeats the picture's border so that the encoder
    /// sees no additional edge.
    fn standing(picture: &Picture, (left, top): (usize, usize), size: PictureSize) -> Self {
        let mut canvas = Self {
            picture: Picture::filled(size.width, size.height, [0; 3]),
            mask: Picture::filled(size.width, size.height, [255; 3]),
        };
        let inside = |at: usize, start: usize, length: usize| at.clamp(start, start + length - 1);
        for (x, y) in (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y))) {
            let near = (inside(x, left, picture.width), inside(y, top, picture.height));
            canvas.picture.set(x, y, picture.at(near.0 - left, near.1 - top));
            if near == (x, y) {
                canvas.mask.set(x, y, [0; 3]);
            }
        }
        canvas
    }

    fn is_open(&self, x: usize, y: usize) -> bool {
        self.mask.at(x, y).into_iter().map(u32::from).sum::<u32>() >= 3 * 128
    }

    /// Returns the picture's codes, row by row, with `None` where any pixel of a code's square is drawn anew.
    ///
    /// # Errors
    /// An error if the mask leaves everything as it is, or if the codes do not cover the picture.
    pub fn known(&self, codes: &[u32]) -> Result<Vec<Option<u32>>, UsageError> {
        let grid =
            Grid::under(self.picture.size(), codes.len()).ok_or_else(|| self.not_covered(codes.len()))?;
        let (across, pixels) = (grid.columns, self.picture.width / grid.columns);
        let open = |at: usize| {
            let (left, top) = (at % across * pixels, at / across * pixels);
            (top..top + pixels).any(|y| (left..left + pixels).any(|x| self.is_open(x, y)))
        };
        let known: Vec<Option<u32>> = codes
            .iter()
            .enumerate()
            .map(|(at, &code)| (!open(at)).then_some(code))
            .collect();
        if known.iter().all(Option::is_some) {
            let message = "--mask: it has no light pixel, so there is nothing to draw; white parts are drawn anew, black and transparent parts stay";
            return Err(UsageError(message.into()));
        }
        Ok(known)
    }

    fn not_covered(&self, codes: usize) -> UsageError {
        let size = self.picture.size();
        UsageError(format!("{codes} codes do not cover a picture of {size} pixels"))
    }

    /// Combines the drawing where the mask is light with the picture's own pixels elsewhere.
    #[must_use]
    pub fn composed(&self, drawn: &Picture) -> Picture {
        let mut picture = self.picture.clone();
        for y in 0..picture.height {
            for x in 0..picture.width {
                if self.is_open(x, y) {
                    picture.set(x, y, drawn.at(x, y));
                }
            }
        }
        picture
    }
}

/// Reverses an enlargement in which every pixel became a square of equal pixels. It uses the largest factor that leaves
/// whole codes of `pixels` per side.
fn reduced(image: RgbImage, pixels: usize) -> RgbImage {
    let (width, height) = image.dimensions();
    let pixels = u32::try_from(pixels).unwrap_or(u32::MAX);
    let enlarged = |&by: &u32| {
        let codes = [width, height]
            .iter()
            .all(|side| side.is_multiple_of(by * pixels));
        codes
            && image
                .enumerate_pixels()
                .all(|(x, y, pixel)| pixel == image.get_pixel(x / by * by, y / by * by))
    };
    let most = width.min(height) / pixels;
    match (2..=most).rev().find(enlarged) {
        None => image,
        Some(by) => RgbImage::from_fn(width / by, height / by, |x, y| *image.get_pixel(x * by, y * by)),
    }
}

/// Checks that the area around a picture at this place can be drawn.
fn check_place(
    picture: PictureSize,
    (left, top): (usize, usize),
    size: PictureSize,
    pixels: usize,
) -> Result<(), String> {
    let (right, bottom) = (
        left.saturating_add(picture.width),
        top.saturating_add(picture.height),
    );
    if right > size.width || bottom > size.height {
        return Err(format!(
            "and at {left},{top} it reaches to {right},{bottom}, beyond --size {size}; pictures are not scaled: give a larger \
             --size, or a smaller picture"
        ));
    }
    if picture == size {
        return Err(format!("which fills --size {size}: there is nothing to draw"));
    }
    let whole = |start: usize, end: usize| start.next_multiple_of(pixels) + pixels <= end;
    if whole(left, right) && whole(top, bottom) {
        Ok(())
    } else {
        Err(format!(
            "and at {left},{top} it covers no whole code of {pixels} by {pixels}"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_enlarged_picture_is_taken_as_it_was() {
        let small = RgbImage::from_fn(16, 8, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let large = RgbImage::from_fn(96, 48, |x, y| *small.get_pixel(x / 6, y / 6));
        assert_eq!(reduced(large, 8), small);
        assert_eq!(reduced(small.clone(), 8), small, "it was not enlarged");
        let plain = RgbImage::from_pixel(48, 48, image::Rgb([7; 3]));
        assert_eq!(
            reduced(plain, 8).dimensions(),
            (8, 8),
            "a whole code is left at least"
        );
    }

    /// Makes a picture of four by four pixels with four codes; only the upper left pixel is light.
    fn canvas() -> Canvas {
        let mut mask = Picture::filled(4, 4, [0, 0, 0]);
        mask.set(0, 0, [255, 255, 255]);
        Canvas {
            picture: Picture::filled(4, 4, [9, 9, 9]),
            mask,
        }
    }

    #[test]
    fn a_code_is_unknown_where_any_of_its_pixels_is_light() {
        let known = canvas().known(&[5, 6, 7, 8]).unwrap();
        assert_eq!(known, [None, Some(6), Some(7), Some(8)]);
        let mut dark = canvas();
        dark.mask = Picture::filled(4, 4, [0, 0, 0]);
        assert!(
            dark.known(&[5, 6, 7, 8])
                .unwrap_err()
                .to_string()
                .contains("nothing to draw")
        );
    }

    #[test]
    fn a_picture_is_what_is_in_it_whatever_its_name_says() {
        let name =
            |what: &str| std::env::temp_dir().join(format!("demask-{what}-{}.png", std::process::id()));
        let (from, mask) = (name("from"), name("mask"));
        let white = image::RgbImage::from_pixel(8, 8, image::Rgb([255; 3]));
        white.save_with_format(&from, image::ImageFormat::Jpeg).unwrap();
        white.save_with_format(&mask, image::ImageFormat::Png).unwrap();
        let read = Canvas::read(&from, &mask, PictureSize::square(4), true);
        for file in [from, mask] {
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(read.unwrap().picture.at(3, 3), [255; 3]);
    }

    #[test]
    fn a_transparent_mask_draws_nothing_and_a_transparent_picture_is_white() {
        let folder = std::env::temp_dir();
        let [from, mask] = ["clear-from", "clear-mask"]
            .map(|what| folder.join(format!("{what}-{}.png", std::process::id())));
        let clear = |colour: u8| image::RgbaImage::from_pixel(4, 4, image::Rgba([colour, colour, colour, 0]));
        clear(0).save(&from).unwrap();
        clear(255).save(&mask).unwrap();
        let read = Canvas::read(&from, &mask, PictureSize::square(4), true);
        let size = PictureSize { width: 8, height: 4 };
        let around = Canvas::around(&from, size, None, 2, false);
        for file in [from, mask] {
            std::fs::remove_file(file).unwrap();
        }
        let read = read.unwrap();
        assert_eq!(read.picture, Picture::filled(4, 4, [255; 3]));
        let words = read.known(&[5, 6, 7, 8]).unwrap_err().to_string();
        assert!(words.contains("nothing to draw"), "{words}");
        assert_eq!(around.unwrap().picture, Picture::filled(8, 4, [255; 3]));
    }

    #[test]
    fn pixels_outside_the_mask_are_the_pictures_own() {
        let composed = canvas().composed(&Picture::filled(4, 4, [1, 2, 3]));
        assert_eq!(
            (composed.at(0, 0), composed.at(1, 0), composed.at(3, 3)),
            ([1, 2, 3], [9; 3], [9; 3])
        );
    }

    #[test]
    fn codes_that_a_placed_picture_covers_whole_are_known() {
        let mut picture = Picture::filled(5, 4, [9, 9, 9]);
        picture.set(0, 3, [1, 2, 3]);
        let size = PictureSize { width: 8, height: 4 };
        // A code has two pixels: columns 1 to 5 cover the second and the third code of a row, and half of the first.
        let canvas = Canvas::standing(&picture, (1, 0), size);
        let known = canvas.known(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let row = |codes: [u32; 2]| [None, Some(codes[0]), Some(codes[1]), None];
        assert_eq!(known, [row([1, 2]), row([5, 6])].concat());
        assert_eq!(canvas.picture.at(0, 3), [1, 2, 3]);
        let composed = canvas.composed(&Picture::filled(8, 4, [7, 7, 7]));
        let kept = |x: usize| composed.at(x, 0) == [9; 3];
        assert!((0..8).all(|x| kept(x) == (1..6).contains(&x)));
    }
}
