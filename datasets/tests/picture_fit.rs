//! Pictures of any size, made square as the published preprocessing makes them: recorded from Pillow.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_api::Picture;
use demask_datasets::picture_fit::{Fit, fit, fit_picture};
use image::{DynamicImage, Rgb, RgbImage};
use proptest::prelude::*;

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
        serde_json::from_str(include_str!("fixtures/picture_fit.json")).unwrap();
    let tall = pattern().rotate270();
    let cases = [
        ("crop", fit(&pattern(), 8, Fit::Crop, false)),
        ("squash", fit(&pattern(), 8, Fit::Squash, false)),
        ("pad", fit(&pattern(), 8, Fit::Pad, false)),
        ("crop_up", fit(&pattern(), 32, Fit::Crop, false)),
        ("tall", fit(&tall, 8, Fit::Crop, false)),
    ];
    for (name, ours) in cases {
        assert_eq!(ours.rgb, golden[name], "{name}");
    }
}

#[test]
fn whole_pixels_stay_sharp_and_the_right_size_stays_as_it_is() {
    let dots = RgbImage::from_fn(8, 8, |x, y| Rgb([((x / 2 + y / 2) % 2 * 255) as u8; 3]));
    let small = fit(&DynamicImage::ImageRgb8(dots.clone()), 4, Fit::Crop, true);
    assert!((0..4).all(|at| small.at(at, 0)[0] == if at % 2 == 0 { 0 } else { 255 }));
    let picture = Picture {
        width: 8,
        height: 8,
        rgb: dots.into_raw(),
    };
    assert_eq!(fit_picture(&picture, 8), picture);
    assert_eq!(fit_picture(&picture, 4).width, 4);
}

#[test]
fn a_fit_has_a_name() {
    assert_eq!("pad".parse::<Fit>(), Ok(Fit::Pad));
    let message = "stretch".parse::<Fit>().unwrap_err();
    assert!(message.contains("crop, squash or pad"), "{message}");
}

proptest! {
    #[test]
    fn any_size_becomes_the_square(width in 1u32..40, height in 1u32..40, side in 1usize..24) {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(width, height, Rgb([9, 90, 200])));
        for way in [Fit::Crop, Fit::Squash] {
            let square = fit(&image, side, way, false);
            prop_assert_eq!(square, Picture::filled(side, side, [9, 90, 200]));
        }
        prop_assert_eq!(fit(&image, side, Fit::Pad, false).rgb.len(), 3 * side * side);
    }
}
