//! Perceptual hashes: a picture is recognized after scaling, JPEG compression and conversion to another
//! format, and is not confused with another picture.

use demask_api::Picture;
use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::likeness::Likeness;
use demask_datasets::curation::likeness_cache::LikenessCache;
use demask_datasets::example::{Check, Example, Kind, Split};
use demask_datasets::formats::Encoded;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Returns a picture of soft blobs on a gradient, which resembles a photograph at low frequencies.
fn photograph(seed: u64) -> DynamicImage {
    let mut random = StdRng::seed_from_u64(seed);
    let blobs: Vec<[f64; 6]> = (0..12)
        .map(|_| {
            let mut draw = |low: f64, high: f64| random.random_range(low..high);
            [
                draw(0.0, 1.0),
                draw(0.0, 1.0),
                draw(0.05, 0.35),
                draw(-120.0, 120.0),
                draw(-120.0, 120.0),
                draw(-120.0, 120.0),
            ]
        })
        .collect();
    DynamicImage::ImageRgb8(RgbImage::from_fn(240, 180, |x, y| {
        let (x, y) = (f64::from(x) / 240.0, f64::from(y) / 180.0);
        let channel = |at: usize| {
            let light: f64 = blobs
                .iter()
                .map(|blob| {
                    blob[at] * (-((x - blob[0]).powi(2) + (y - blob[1]).powi(2)) / blob[2].powi(2)).exp()
                })
                .sum();
            (128.0 + light).clamp(0.0, 255.0) as u8
        };
        Rgb([channel(3), channel(4), channel(5)])
    }))
}

fn jpeg(image: &DynamicImage, quality: u8) -> Encoded {
    let mut bytes = Vec::new();
    image
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        .unwrap();
    Encoded::Bytes(bytes.into())
}

fn likeness(picture: &Encoded) -> Likeness {
    picture.likeness().unwrap().unwrap()
}

#[test]
fn scaling_quality_and_format_leave_a_picture_what_it_is() {
    for seed in 0..60 {
        let image = photograph(seed);
        let own = Likeness::of_image(&image).unwrap();
        let changed = [
            jpeg(&image, 75),
            jpeg(&image, 30),
            jpeg(&image.resize_exact(120, 90, FilterType::CatmullRom), 75),
            jpeg(&image.resize_exact(224, 224, FilterType::Triangle), 85),
            jpeg(&image.resize_exact(480, 360, FilterType::Triangle), 90),
        ];
        for (at, other) in changed.iter().enumerate() {
            assert!(own.is_of(&likeness(other)), "picture {seed}, change {at}");
        }
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).unwrap();
        assert_eq!(likeness(&Encoded::Bytes(png.into_inner().into())), own);
    }
}

#[test]
fn other_pictures_have_other_likenesses() {
    let all: Vec<Likeness> = (0..150)
        .map(|seed| Likeness::of_image(&photograph(seed)).unwrap())
        .collect();
    for (at, one) in all.iter().enumerate() {
        for (other_at, other) in all.iter().enumerate().skip(at + 1) {
            assert!(!one.is_of(other), "{at} and {other_at}");
        }
    }
}

#[test]
fn a_blank_sheet_is_like_nothing() {
    let blank = DynamicImage::ImageRgb8(RgbImage::from_pixel(64, 64, Rgb([200, 200, 200])));
    assert_eq!(Likeness::of_image(&blank), None);
}

fn example(prompt: &str, picture: Option<Picture>) -> Example {
    Example {
        id: String::new(),
        source: "own".into(),
        place: String::new(),
        licence: String::new(),
        split: Split::Train,
        kind: Kind::Question,
        category: String::new(),
        held_out: false,
        prompt: prompt.into(),
        turns: Vec::new(),
        picture,
        reasoning: None,
        answer: Some("the answer to it".into()),
        check: Check::None,
        columns: serde_json::Map::new(),
    }
}

/// Training examples that contain a benchmark's question, a long choice or a picture are found (L6), a
/// picture also after scaling.
#[test]
fn l6_a_published_benchmark_is_found_by_question_choice_and_picture() {
    let mut forbidden = Forbidden::default();
    let choices = [
        "Which of these is the capital of the land of cedars?".to_owned(),
        "red".to_owned(),
        "a city that lies by the sea and was founded long ago".to_owned(),
    ];
    let about_picture = ["Is there a dog in the image?".to_owned()];
    forbidden.register_published("text", [(choices.as_slice(), false)], []);
    let shown = Likeness::of_image(&photograph(7)).unwrap();
    forbidden.register_published("pictures", [(about_picture.as_slice(), true)], [shown]);
    let overlap = |example: &Example| {
        forbidden
            .overlap(example)
            .map(|overlap| (overlap.benchmark, overlap.rule))
    };
    let found = |benchmark: &str, rule| Some((benchmark.to_owned(), rule));
    assert_eq!(overlap(&example(&choices[0], None)), found("text", "whole"));
    let inside = format!("They spoke of {} and of ships.", choices[2]);
    assert_eq!(overlap(&example(&inside, None)), found("text", "whole"));
    // A short choice and a short question about a picture are too common to count as an overlap.
    assert_eq!(overlap(&example("red", None)), None);
    assert_eq!(overlap(&example(&about_picture[0], None)), None);
    let scaled = photograph(7).resize_exact(64, 64, FilterType::Triangle).to_rgb8();
    let picture = Picture {
        width: 64,
        height: 64,
        rgb: scaled.into_raw(),
    };
    assert_eq!(
        overlap(&example("anything", Some(picture))),
        found("pictures", "likeness")
    );
}

/// A hash is computed once as long as the file is the same, in this run and the next. A broken cache counts
/// as empty.
#[test]
fn likenesses_are_remembered_by_the_identity_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("room/likenesses");
    let file = |number: u64| {
        let path = folder.path().join(format!("{number}.png"));
        photograph(number).save(&path).unwrap();
        Encoded::File(path)
    };
    let mut pictures: Vec<Encoded> = (0..3).map(file).collect();
    pictures.push(jpeg(&photograph(9), 80));
    pictures.push(Encoded::File(folder.path().join("absent.png")));
    pictures.push(pictures[0].clone());
    let sorted = |mut all: Vec<Likeness>| {
        all.sort_by_key(Likeness::bits);
        all
    };
    let own = sorted(pictures[..4].iter().map(likeness).collect());
    let ask = |pictures: &[Encoded]| {
        let mut cache = LikenessCache::open(kept.clone());
        let found = sorted(cache.of(&pictures.iter().collect::<Vec<_>>()));
        cache.save().unwrap();
        (found, cache.computed())
    };
    assert_eq!(ask(&pictures), (own.clone(), 4));
    assert_eq!(ask(&pictures), (own.clone(), 0));
    // Another picture at the same path.
    std::fs::remove_file(folder.path().join("1.png")).unwrap();
    photograph(70)
        .resize(90, 60, FilterType::Triangle)
        .save(folder.path().join("1.png"))
        .unwrap();
    let (found, computed) = ask(&pictures);
    assert_eq!((found.len(), computed), (4, 1));
    assert!(found.contains(&likeness(&pictures[1])) && found != own);
    std::fs::write(&kept, "something else\n").unwrap();
    assert_eq!(ask(&pictures), (found, 4));
}
