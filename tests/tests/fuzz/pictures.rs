//! Pictures: PNG and JPEG, cropped to squares and fitted in each way.

use demask_api::PictureSize;
use demask_datasets::pictures::file::{decode_bytes, read_bytes};
use demask_datasets::pictures::fit::{Fit, fit};
use demask_tests::fuzz::Door;
use image::{DynamicImage, ImageFormat};

fn pictures() -> Vec<DynamicImage> {
    let picture = image::RgbaImage::from_fn(17, 9, |x, y| {
        image::Rgba([x as u8 * 9, y as u8 * 20, 128, 255 - x as u8])
    });
    let picture = DynamicImage::ImageRgba8(picture);
    vec![
        DynamicImage::ImageRgb8(picture.to_rgb8()),
        DynamicImage::ImageLuma8(picture.to_luma8()),
        DynamicImage::ImageRgba16(picture.to_rgba16()),
        picture,
    ]
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn seen(bytes: &[u8]) {
    read_bytes(bytes, 32).ok();
    if let Ok(picture) = decode_bytes(bytes) {
        let size = PictureSize {
            width: 64,
            height: 48,
        };
        for way in [Fit::Crop, Fit::Squash, Fit::Pad] {
            let _ = fit(&picture, size, way, true);
        }
    }
}

#[test]
fn png() {
    let seeds = pictures().into_iter().map(|one| encoded(&one, ImageFormat::Png));
    Door {
        name: "png",
        inputs: 10_000,
        seeds: seeds.collect(),
        words: &[
            b"IHDR",
            b"PLTE",
            b"tRNS",
            b"IDAT",
            b"acTL",
            b"\0\0\xff\xff",
            b"\0\0\0\x01",
        ],
        spare: 0,
    }
    .tried(|bytes| seen(&with_checksums(bytes)));
}

#[test]
fn jpeg() {
    let seeds = pictures().into_iter().take(2);
    let seeds = seeds.map(|one| encoded(&one, ImageFormat::Jpeg));
    Door {
        name: "jpeg",
        inputs: 10_000,
        seeds: seeds.collect(),
        words: &[
            b"\xff\xc0",
            b"\xff\xc2",
            b"\xff\xda",
            b"\xff\xdb",
            b"\xff\xc4",
            b"\xff\xd0",
            b"\xff\xff",
        ],
        spare: 0,
    }
    .tried(seen);
}

#[test]
fn neither() {
    let seeds = [
        &b"GIF89a\x01\0\x01\0"[..],
        b"RIFF\0\0\0\0WEBP",
        b"BM",
        b"II*\0",
        b"P6 1 1 255 abc",
        b"<svg/>",
    ];
    Door {
        name: "no-picture",
        inputs: 10_000,
        seeds: seeds.map(<[u8]>::to_vec).to_vec(),
        words: &[],
        spare: 0,
    }
    .tried(seen);
}

/// Recomputes the checksums of a PNG's chunks, because decoders stop at a wrong one.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(end) = at.checked_add(8 + length).filter(|&end| end + 4 <= bytes.len()) else {
            break;
        };
        let sum = crc(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    let step = |sum: u32| {
        if sum & 1 == 1 {
            (sum >> 1) ^ 0xedb8_8320
        } else {
            sum >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| step(sum))
    })
}
