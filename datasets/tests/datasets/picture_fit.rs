//! Pictures of any size, fitted to squares as the published preprocessing does (recorded from Pillow), or to
//! other shapes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_api::{Picture, PictureSize};
use demask_datasets::pictures::file::{decode, decode_bytes, decode_over, read};
use demask_datasets::pictures::fit::{Fit, fit, fit_picture};
use demask_datasets::pictures::jpeg;
use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

fn square(side: usize) -> PictureSize {
    PictureSize::square(side)
}

fn size(width: usize, height: usize) -> PictureSize {
    PictureSize { width, height }
}

fn pattern() -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(23, 14, |x, y| {
        let byte = |value: u32| (value % 256) as u8;
        Rgb([
            byte(x * 37 + y * 11),
            byte(x * x * 3 + y * 29),
            byte(x * y * 17 + 40),
        ])
    }))
}

#[test]
fn every_fit_is_pillows_to_the_bit() {
    let golden: BTreeMap<String, Vec<u8>> =
        serde_json::from_str(include_str!("../fixtures/picture_fit.json")).unwrap();
    let tall = pattern().rotate270();
    let cases = [
        ("crop", fit(&pattern(), square(8), Fit::Crop, false)),
        ("squash", fit(&pattern(), square(8), Fit::Squash, false)),
        ("pad", fit(&pattern(), square(8), Fit::Pad, false)),
        ("crop_up", fit(&pattern(), square(32), Fit::Crop, false)),
        ("tall", fit(&tall, square(8), Fit::Crop, false)),
    ];
    for (name, ours) in cases {
        assert_eq!(ours.rgb, golden[name], "{name}");
    }
}

#[test]
fn whole_pixels_stay_sharp_and_the_right_size_stays_as_it_is() {
    let dots = RgbImage::from_fn(8, 8, |x, y| Rgb([((x / 2 + y / 2) % 2 * 255) as u8; 3]));
    let small = fit(&DynamicImage::ImageRgb8(dots.clone()), square(4), Fit::Crop, true);
    assert!((0..4).all(|at| small.at(at, 0)[0] == if at % 2 == 0 { 0 } else { 255 }));
    let picture = Picture {
        width: 8,
        height: 8,
        rgb: dots.into_raw(),
    };
    assert_eq!(fit_picture(&picture, square(8)), picture);
    assert_eq!(fit_picture(&picture, square(4)).width, 4);
}

#[test]
fn what_is_transparent_lies_over_white_or_the_ground_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("see-through.png");
    // Black text on transparency: transparent, half transparent, opaque.
    let text = RgbaImage::from_fn(3, 1, |x, _| Rgba([0, 0, 0, [0, 128, 255][x as usize]]));
    text.save(&file).unwrap();
    let row = |image: DynamicImage| -> Vec<u8> { image.to_rgb8().pixels().map(|pixel| pixel[1]).collect() };
    assert_eq!(row(decode(&file).unwrap()), [255, 127, 0]);
    assert_eq!(row(decode_over(&file, [40; 3]).unwrap()), [40, 20, 0]);
    let grey = image::GrayAlphaImage::from_pixel(2, 2, image::LumaA([0, 0]));
    grey.save(&file).unwrap();
    assert_eq!(read(&file, 2).unwrap(), Picture::filled(2, 2, [255; 3]));
}

#[test]
fn a_fit_has_a_name() {
    assert_eq!("pad".parse::<Fit>(), Ok(Fit::Pad));
    let message = "stretch".parse::<Fit>().unwrap_err();
    assert!(message.contains("crop, squash or pad"), "{message}");
}

/// Cropping keeps the middle: the same amount is cut from both ends. A picture that has the target's shape is
/// only scaled.
#[test]
fn a_rectangle_is_the_middle_of_what_covers_it() {
    let of = |picture: &RgbImage, size, way| fit(&DynamicImage::ImageRgb8(picture.clone()), size, way, false);
    let pattern = pattern().to_rgb8();
    // The target is wider: 23 x 14 cropped to 23 x 8 keeps the rows 3 to 10.
    let wide = of(&pattern, size(23, 8), Fit::Crop);
    for (x, y) in (0..8).flat_map(|y| (0..23).map(move |x| (x, y))) {
        assert_eq!(wide.at(x, y), pattern.get_pixel(x as u32, y as u32 + 3).0);
    }
    // The target is narrower: the columns 8 to 14 stay.
    let tall = of(&pattern, size(7, 14), Fit::Crop);
    for (x, y) in (0..14).flat_map(|y| (0..7).map(move |x| (x, y))) {
        assert_eq!(tall.at(x, y), pattern.get_pixel(x as u32 + 8, y as u32).0);
    }
    assert_eq!(
        of(&pattern, size(46, 28), Fit::Crop),
        of(&pattern, size(46, 28), Fit::Squash)
    );
    let turned = DynamicImage::ImageRgb8(pattern.clone()).rotate90().to_rgb8();
    let (lying, standing) = (
        of(&pattern, size(6, 9), Fit::Pad),
        of(&turned, size(9, 6), Fit::Pad),
    );
    assert_eq!((lying.size(), standing.size()), (size(6, 9), size(9, 6)));
}

#[test]
fn white_is_put_around_until_it_has_the_shape() {
    let dark = DynamicImage::ImageRgb8(RgbImage::from_pixel(6, 6, Rgb([10; 3])));
    let wide = fit(&dark, size(12, 6), Fit::Pad, false);
    let white = |x: usize| !(3..9).contains(&x);
    for (x, y) in (0..6).flat_map(|y| (0..12).map(move |x| (x, y))) {
        assert_eq!(
            wide.at(x, y),
            if white(x) { [255; 3] } else { [10; 3] },
            "{x}, {y}"
        );
    }
    // An odd padding pixel is at the right.
    let odd = fit(&dark, size(7, 6), Fit::Pad, false);
    assert_eq!((odd.at(0, 0), odd.at(6, 0)), ([10; 3], [255; 3]));
}

#[test]
fn a_rectangle_of_whole_pixels_stays_sharp() {
    let mut dots = RgbImage::new(12, 6);
    for (x, y) in (0..6).flat_map(|y| (0..12).map(move |x| (x, y))) {
        dots.put_pixel(x, y, Rgb([((x / 3 + y / 3) % 2 * 255) as u8; 3]));
    }
    let small = fit(&DynamicImage::ImageRgb8(dots), size(4, 2), Fit::Crop, true);
    assert_eq!(small.size(), size(4, 2));
    for (x, y) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        assert_eq!(small.at(x, y), [((x + y) % 2 * 255) as u8; 3]);
    }
    assert_eq!(fit_picture(&small, size(4, 2)), small);
    assert_eq!(fit_picture(&small, size(2, 4)).size(), size(2, 4));
}

proptest! {
    #[test]
    fn any_size_becomes_any_shape(
        (width, height) in (1u32..40, 1u32..40), (wide, high) in (1usize..24, 1usize..24),
    ) {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([9, 90, 200])));
        for way in [Fit::Crop, Fit::Squash] {
            let fitted = fit(&image, size(wide, high), way, false);
            prop_assert_eq!(fitted, Picture::filled(wide, high, [9, 90, 200]));
        }
        let padded = fit(&image, size(wide, high), Fit::Pad, false);
        prop_assert_eq!((padded.size(), padded.rgb.len()), (size(wide, high), 3 * wide * high));
    }

    /// Padding is computed without storing a canvas, and gives the same bits as scaling a white canvas.
    #[test]
    fn padding_is_a_white_canvas_scaled(
        (width, height) in (1u32..30, 1u32..30), side in 1usize..24, seed in any::<u32>(),
    ) {
        let shade = |x: u32, y: u32| (seed.wrapping_mul(x * 31 + y * 17 + 1) >> 24) as u8;
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([shade(x, y), shade(y, x), shade(x + 1, y)]));
        let canvas_side = width.max(height);
        let mut canvas = RgbImage::from_pixel(canvas_side, canvas_side, Rgb([255; 3]));
        let start = [(canvas_side - width) / 2, (canvas_side - height) / 2];
        image::imageops::replace(&mut canvas, &image, i64::from(start[0]), i64::from(start[1]));
        let of = |image: RgbImage, way| fit(&DynamicImage::ImageRgb8(image), size(side, side), way, false);
        prop_assert_eq!(of(image, Fit::Pad), of(canvas, Fit::Squash));
    }
}

/// Returns a PNG whose header claims this size, with almost no data.
fn hollow(width: u32, height: u32) -> Vec<u8> {
    let mut png = Vec::new();
    RgbImage::new(1, 1)
        .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
        .unwrap();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&png[12..29]);
    png[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    png
}

#[test]
fn l9_a_picture_that_is_too_large_is_refused_by_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bomb.png");
    for (width, height) in [(40_000, 2), (2, 40_000), (20_000, 20_000), (32_768, 32_768)] {
        let bomb = hollow(width, height);
        std::fs::write(&file, &bomb).unwrap();
        let size = format!("{width} x {height} pixels");
        for words in [
            decode(&file).unwrap_err(),
            read(&file, 32).unwrap_err(),
            decode_bytes(&bomb).unwrap_err(),
        ] {
            assert!(
                words.contains(&size) && words.contains("and 201326592 bytes"),
                "{words}"
            );
        }
    }
    let device = decode(std::path::Path::new("/dev/zero")).unwrap_err();
    assert!(device.contains("regular file"), "{device}");
}

#[test]
fn l9_a_line_of_pixels_becomes_a_square_without_one_of_its_length() {
    // A padded canvas would have 3,000 by 3,000 pixels, and an enlarged picture that covers the square
    // 768,000 rows.
    for (width, height) in [(2, 3_000), (3_000, 2)] {
        let line = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([9, 8, 7])));
        for way in [Fit::Crop, Fit::Squash, Fit::Pad] {
            let fitted = fit(&line, size(512, 512), way, false);
            assert_eq!((fitted.width, fitted.height), (512, 512));
            let middle = fitted.at(256, 256);
            assert!(way == Fit::Pad || middle == [9, 8, 7], "{middle:?}");
        }
    }
}

/// A row of a picture that Pillow 13 saved as JPEG with its defaults and read again.
const PILLOWS: [u8; 72] = [
    57, 73, 210, 60, 77, 207, 66, 80, 202, 72, 84, 194, 77, 87, 184, 84, 90, 174, 94, 94, 168, 101, 96, 160,
    108, 97, 153, 116, 100, 145, 124, 102, 138, 131, 106, 128, 138, 108, 118, 143, 112, 110, 149, 117, 104,
    156, 120, 98, 165, 122, 90, 172, 125, 81, 179, 128, 73, 185, 132, 62, 190, 135, 52, 197, 139, 42, 204,
    143, 37, 208, 146, 35,
];

#[test]
fn a_picture_through_jpeg_is_what_pillow_makes_of_it() {
    let image = image::RgbImage::from_fn(24, 16, |x, y| {
        image::Rgb([40 + x * 7 + y * 2, 30 + x * 3 + y * 9, 220 - x * 8].map(|value| value as u8))
    });
    let read = jpeg::round_trip(&image).unwrap();
    assert_eq!(read.dimensions(), (24, 16));
    let row: Vec<u8> = (0..24).flat_map(|x| read.get_pixel(x, 5).0).collect();
    let apart = |(one, other): (&u8, &u8)| f64::from(one.abs_diff(*other));
    let apart: Vec<f64> = row.iter().zip(&PILLOWS).map(apart).collect();
    let mean = apart.iter().sum::<f64>() / 72.0;
    assert!(
        mean < 1.0 && apart.iter().all(|one| *one <= 6.0),
        "{mean}: {row:?}"
    );
    assert_ne!(read, image);
    assert!(
        jpeg::round_trip(&image::RgbImage::new(70_000, 1))
            .unwrap_err()
            .contains("65535")
    );
}
