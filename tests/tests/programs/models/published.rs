//! Published folders through the built programs: the shipped model in MMaDA's layout must answer as in its own layout
//! (the same tokens, without padding) and still draw what is requested.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Output;

use demask_tests::published::lay_out;
use demask_tests::{Place, finish};
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// The shipped weights in MMaDA's layout, and the folder of its image tokenizer.
struct Published {
    place: Place,
    folder: PathBuf,
    image_tokenizer: PathBuf,
}

impl Published {
    fn new(family: &str) -> Self {
        let place = Place::default();
        let (folder, image_tokenizer) = lay_out(place.path(), family);
        Self {
            place,
            folder,
            image_tokenizer,
        }
    }

    /// Adds a chat template, as MMaDA's tokenizer has one.
    fn with_template(self, template: &str) -> Self {
        let settings = json!({ "bos_token": "<|startoftext|>", "chat_template": template });
        std::fs::write(self.folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
        self
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let folder = self.folder.to_str().unwrap();
        self.place
            .run(&[arguments, &["--checkpoint", folder, "--device", "cpu"]].concat())
    }

    /// Runs a command with the image tokenizer, for pictures of 32 pixels.
    fn see(&self, arguments: &[&str]) -> Output {
        self.see_at("32", arguments)
    }

    fn see_at(&self, size: &str, arguments: &[&str]) -> Output {
        let beside = self.image_tokenizer.to_str().unwrap();
        self.run(&[arguments, &["--image-tokenizer", beside, "--size", size]].concat())
    }

    fn answer(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn drawn(&self, more: &[&str]) -> (Value, Vec<u8>) {
        let file = self.place.path().join("drawn.png");
        let arguments = [
            "imagine",
            "a red circle",
            "--json",
            "--output",
            file.to_str().unwrap(),
        ];
        let output = self.see(&[&arguments, more].concat());
        assert!(output.status.success(), "{}", words(&output));
        (
            serde_json::from_slice(&output.stdout).unwrap(),
            std::fs::read(file).unwrap(),
        )
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A sum. Demask's own format appends the mode; for a published model it is part of the prompt.
const SUM: &str = "Ann has 5 pens and loses 2. How many pens?";
/// Greedy decoding, one token a step in one block, independent of a checkpoint's own sampler.
const GREEDY: [&str; 13] = [
    "--no-think",
    "--temperature",
    "0",
    "--length",
    "4",
    "--steps",
    "4",
    "--block",
    "4",
    "--cache",
    "none",
    "--sampling",
    "{}",
];
/// The plain samplers; the text sampler takes few steps.
const HASTY: &str = r#"{"text": {"steps": 6, "block": 0}}"#;
const PLAIN: [&str; 4] = ["--steps", "16", "--sampling", HASTY];

/// Returns what the shipped model writes and draws in its own layout.
fn shipped(arguments: &[&str]) -> String {
    let output = Place::default().run(&[arguments, &["--device", "cpu"]].concat());
    assert!(output.status.success(), "{}", words(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn it_answers_by_its_template() {
    let expected = shipped(&[&["generate", SUM], &GREEDY[..]].concat());
    assert!(!expected.is_empty());
    let asked = format!("{SUM} /no");
    let generate = [&["generate", asked.as_str()], &GREEDY[..]].concat();
    let published = Published::new("mmada");
    assert_eq!(published.answer(&generate), expected);
    // MMaDA's own template with one line feed gives the same markup; a template that hides the question does not.
    let template = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n' + \
                    m['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n' }}";
    let published = published.with_template(template);
    assert_eq!(published.answer(&generate), expected);
    let published = published.with_template("{{ bos_token }}a red circle");
    assert_ne!(published.answer(&generate), expected);
    let mmadas = [&generate[..], &["--quirk", "template=mmada"]].concat();
    assert_eq!(published.answer(&mmadas), expected);
    let published = published.with_template("{{ raise_exception('nobody may ask') }}");
    let refused = published.run(&generate);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("nobody may ask"), "{}", words(&refused));
}

/// A published model draws what is requested. Each published quirk changes the picture and can be switched
/// off again.
#[test]
fn it_draws_after_the_published_layout() {
    let guided = [&PLAIN[..], &["--guidance", "1"]].concat();
    let published = Published::new("mmada");
    let (report, ours) = published.drawn(&guided);
    let reads = report["reads"].as_str().unwrap();
    assert!(reads.contains("red circle"), "{report}");
    assert_eq!(
        (report["forwards"].as_u64(), report["unknown_cells"].as_u64()),
        (Some(16), Some(0))
    );
    // Attending to all the padding gives another picture, and so do all published quirks together.
    let (_, all) = published.drawn(&[&guided[..], &["--quirk", "attention=none"]].concat());
    assert_ne!(all, ours);
    let (_, theirs) = published.drawn(&[&guided[..], &["--as-published"]].concat());
    assert_ne!(theirs, ours);
    // A single quirk can be switched off again.
    let (_, hard) = published.drawn(
        &[
            &guided[..],
            &["--quirk", "attention=none", "--quirk", "attention=hard"],
        ]
        .concat(),
    );
    assert_eq!(hard, ours);
}

#[test]
fn it_thinks_and_then_draws() {
    let published = Published::new("mmada");
    let (report, _) = published.drawn(&[&PLAIN[..], &["--think"]].concat());
    assert!(
        report["thought"]
            .as_str()
            .is_some_and(|thought| !thought.is_empty()),
        "{report}"
    );
    assert!(report["forwards"].as_u64() > Some(16), "{report}");
}

/// A published model reads and evaluates pictures larger than its own.
#[test]
fn it_reads_pictures_of_any_size() {
    let published = Published::new("mmada");
    let file = published.place.path().join("large.png");
    let file = file.to_str().unwrap();
    let drawn = published.see(&[
        "imagine",
        "a red circle",
        "--steps",
        "16",
        "--guidance",
        "1",
        "--scale",
        "5",
        "--output",
        file,
    ]);
    assert!(drawn.status.success(), "{}", words(&drawn));
    let mut said = Vec::new();
    for fit in ["crop", "squash", "pad"] {
        let asked = published.see(&[
            "describe",
            file,
            "is there a circle?",
            "--fit",
            fit,
            "--sampling",
            HASTY,
        ]);
        assert!(asked.status.success(), "{}", words(&asked));
        said.push(asked.stdout);
    }
    // A square is fitted in the same way by all modes.
    assert!(said[0] == said[1] && said[1] == said[2], "{said:?}");
    let eval = published.see(&[
        "eval",
        "tabletop-ask",
        "--limit",
        "4",
        "--json",
        "--sampling",
        HASTY,
    ]);
    let result: Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert!(result["n"].as_u64() > Some(0), "{}", words(&eval));
}

/// Returns the pixels of a picture file.
fn pixels(file: &str) -> RgbImage {
    demask_datasets::pictures::file::decode(Path::new(file))
        .unwrap()
        .to_rgb8()
}

/// Pictures that are wider or higher than square are drawn, inpainted and described. Inpainting redraws the
/// masked part and keeps the rest, up to the image tokenizer's error.
#[test]
fn it_draws_and_reads_pictures_that_are_not_square() {
    let published = Published::new("mmada");
    let file = |name: &str| published.place.path().join(name).to_str().unwrap().to_owned();
    let imagine = |size: &str, output: &str, more: &[&str]| {
        let drawing = ["imagine", "a red circle", "--scale", "1", "--output", output];
        let few = ["--steps", "4", "--sampling", HASTY];
        let output = published.see_at(size, &[&drawing[..], &few, more].concat());
        assert!(output.status.success(), "{}", words(&output));
    };
    let (wide, tall) = (file("wide.png"), file("tall.png"));
    imagine("48x32", &wide, &[]);
    imagine("32x48", &tall, &[]);
    assert_eq!(pixels(&wide).dimensions(), (48, 32));
    assert_eq!(pixels(&tall).dimensions(), (32, 48));

    // The right third, which was painted over, is redrawn; picture and mask are twice as large as the model's.
    let (large, mask, changed) = (file("large.png"), file("mask.png"), file("changed.png"));
    const PAINT: [u8; 3] = [255, 0, 255];
    let mut painted = resize(&pixels(&wide), 96, 64, FilterType::Nearest);
    for (_, _, pixel) in painted.enumerate_pixels_mut().filter(|(x, _, _)| *x >= 64) {
        *pixel = Rgb(PAINT);
    }
    painted.save(&large).unwrap();
    let light = RgbImage::from_fn(96, 64, |x, _| Rgb([if x < 64 { 0 } else { 255 }; 3]));
    light.save(&mask).unwrap();
    imagine("48x32", &changed, &["--from", &large, "--mask", &mask]);
    let (before, after) = (pixels(&wide), pixels(&changed));
    assert_eq!(after.dimensions(), (48, 32));
    let far = |x: u32, y: u32, from: [u8; 3]| {
        let found = after.get_pixel(x, y).0;
        (0..3).map(|at| from[at].abs_diff(found[at])).max().unwrap()
    };
    // Bicubic downscaling rounds corners off.
    let kept = (0..32).flat_map(|y| (0..30).map(move |x| (x, y)));
    let mean = kept
        .map(|(x, y)| f64::from(far(x, y, before.get_pixel(x, y).0)))
        .sum::<f64>()
        / (32.0 * 30.0);
    assert!(mean < 12.0, "{mean}");
    assert!(
        (0..32).all(|y| (33..48).all(|x| far(x, y, PAINT) > 60)),
        "the paint shines through"
    );

    let asked = published.see_at(
        "48x32",
        &["describe", &wide, "is there a circle?", "--sampling", HASTY],
    );
    assert!(asked.status.success(), "{}", words(&asked));
}

/// Outpainting keeps the given picture's pixels exactly, at the default or a given place. A place outside
/// the canvas, conflicting flags, and pictures that leave nothing to draw or cover no code are refused.
#[test]
fn a_picture_is_drawn_around_and_keeps_its_pixels() {
    let published = Published::new("mmada");
    let file = |name: &str| published.place.path().join(name).to_str().unwrap().to_owned();
    let (small, output) = (file("small.png"), file("around.png"));
    let given = RgbImage::from_fn(18, 12, |x, y| Rgb([(x * 14) as u8, (y * 20) as u8, 90]));
    given.save(&small).unwrap();
    let around = |more: &[&str]| {
        let arguments = ["imagine", "a red circle", "--scale", "1", "--steps", "4"];
        let open = ["--output", &output, "--from", &small, "--outpaint"];
        published.see_at("48x32", &[&arguments[..], &open, more].concat())
    };
    // The centre is at 15,10; the nearest whole code before it is at 8,8.
    for (more, (left, top)) in [(&[][..], (8, 8)), (&["--place", "30,20"][..], (30, 20))] {
        let drawn = around(more);
        assert!(drawn.status.success(), "{}", words(&drawn));
        let drawn = pixels(&output);
        assert_eq!(drawn.dimensions(), (48, 32));
        for (x, y, pixel) in given.enumerate_pixels() {
            assert_eq!(drawn.get_pixel(left + x, top + y), pixel);
        }
    }
    for (more, hints) in [
        (&["--place", "31,20"][..], ["31,20", "49,32"]),
        (&["--place", "1"], ["--place", "X,Y"]),
        (&["--think"], ["--think", "--outpaint"]),
        (&["--mask", "x.png"], ["--mask", "--outpaint"]),
    ] {
        let refused = around(more);
        assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
        for hint in hints {
            assert!(words(&refused).contains(hint), "{}", words(&refused));
        }
    }
    let full = RgbImage::new(48, 32);
    full.save(&small).unwrap();
    let refused = around(&[]);
    assert!(words(&refused).contains("nothing to draw"), "{}", words(&refused));
    RgbImage::new(3, 30).save(&small).unwrap();
    let refused = around(&[]);
    assert!(
        words(&refused).contains("covers no whole code of 8 by 8"),
        "{}",
        words(&refused)
    );
}

/// A picture size that the codes or the context length do not allow is refused with the nearest allowed
/// sizes.
#[test]
fn a_size_that_cannot_be_is_refused_with_those_that_can() {
    let published = Published::new("mmada");
    for (size, hints) in [
        ("33x48", &["--size 33x48", "multiple of 8", "32x48, 40x48"][..]),
        ("33x49", &["32x48, 32x56, 40x48, 40x56"]),
        ("33", &["--size 33", "32, 40"]),
        ("2x4", &["nearest: 8"]),
        (
            "400x64",
            &[
                "--size 400x64",
                "400 picture codes",
                "403 tokens",
                "max_sequence_length 400",
            ],
        ),
        ("0x32", &["--size", "768x512"]),
        ("32x", &["--size", "768x512"]),
        ("wide", &["--size", "768x512"]),
        ("32x32x32", &["--size", "768x512"]),
    ] {
        let refused = published.see_at(size, &["imagine", "x", "--output", "x.png"]);
        assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
        for hint in hints {
            assert!(words(&refused).contains(hint), "{size}: {}", words(&refused));
        }
    }
}

/// A missing image tokenizer or text tokenizer, and invalid sizes, quirks and fits, are refused with what is
/// allowed.
#[test]
fn what_does_not_fit_is_refused_before_an_engine_starts() {
    let published = Published::new("mmada");
    let blind = published.run(&["imagine", "a red circle", "--output", "x.png"]);
    assert_eq!(blind.status.code(), Some(1));
    assert!(words(&blind).contains("--image-tokenizer"), "{}", words(&blind));
    let beside = published.image_tokenizer.to_str().unwrap();
    for (arguments, hint) in [
        (["imagine", "--size", "33", "--output=x.png"], "multiple of"),
        (
            ["imagine", "--quirk", "attention=soft", "--output=x.png"],
            "`hard`, `none`, `additive`",
        ),
        (
            ["imagine", "--quirk", "dtype=bf16", "--output=x.png"],
            "compounding_temperature",
        ),
        (["describe", "--fit", "stretch", "x.png"], "crop, squash or pad"),
    ] {
        let refused = published.run(&[&arguments[..], &["x", "--image-tokenizer", beside]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
        assert!(words(&refused).contains(hint), "{}", words(&refused));
    }
    std::fs::remove_file(published.folder.join("tokenizer.json")).unwrap();
    let missing = published.run(&["generate", "x"]);
    assert!(words(&missing).contains("tokenizer.json"), "{}", words(&missing));
}

#[test]
fn llada_has_two_line_feeds_and_no_pictures() {
    let published = Published::new("llada");
    let generate = ["generate", SUM];
    let generate = [&generate, &GREEDY[..]].concat();
    let two = published.answer(&generate);
    assert_eq!(
        published.answer(&[&generate[..], &["--quirk", "template=llada"]].concat()),
        two
    );
    let one = published.answer(&[&generate[..], &["--quirk", "template=mmada"]].concat());
    let mmada = Published::new("mmada");
    assert_eq!(mmada.answer(&generate), one);
    assert_eq!(
        mmada.answer(&[&generate[..], &["--quirk", "template=llada"]].concat()),
        two
    );
    let drawing = published.see(&["imagine", "a red circle", "--output", "x.png"]);
    assert!(
        words(&drawing).contains("cannot process pictures"),
        "{}",
        words(&drawing)
    );
}

/// Adds the codes of the shipped image tokenizer to LLaDA's text model; returns the output.
fn grow(text: &Published, output: &Path, more: &[&str]) -> Output {
    let beside = text.image_tokenizer.to_str().unwrap();
    let [from, output] = [&text.folder, output].map(|folder| folder.to_str().unwrap());
    let grow = ["grow", from, output, "--image-tokenizer", beside];
    text.place.run(&[&grow, more].concat())
}

/// The rows beyond the tokenizer are the shipped picture codes, so that the grown model can draw.
#[test]
fn llada_grows_into_what_draws() {
    let text = Published::new("llada");
    let output = text.place.path().join("grown");
    for (more, hint) in [
        (
            &["--size", "32", "--codes", "64"][..],
            "the image tokenizer has 1024",
        ),
        (&["--size", "33"], "multiple of 8"),
        (&[], "--size 512"),
    ] {
        let refused = grow(&text, &output, more);
        assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
        assert!(words(&refused).contains(hint), "{}", words(&refused));
    }
    assert!(!output.exists(), "nothing is written");
    let grown = grow(&text, &output, &["--size", "32", "--json"]);
    let report: Value = serde_json::from_slice(&grown.stdout).unwrap();
    assert_eq!(
        [&report["codes"], &report["first_code"], &report["rows"]],
        [1024, 512, 2560],
        "{report}"
    );
    let output = output.to_str().unwrap();
    let drawing = text.place.path().join("drawn.png");
    let imagine = [
        "imagine",
        "a red circle",
        "--json",
        "--checkpoint",
        output,
        "--device",
        "cpu",
    ];
    let to = ["--guidance", "1", "--output", drawing.to_str().unwrap()];
    let drawn = text.place.run(&[&imagine, &PLAIN[..], &to].concat());
    let report: Value = serde_json::from_slice(&drawn.stdout).unwrap();
    let reads = report["reads"].as_str().unwrap();
    assert!(reads.contains("red circle"), "{report}");
    let again = grow(&text, Path::new(output), &["--size", "32"]);
    assert!(words(&again).contains("exists already"), "{}", words(&again));
    let more = text.place.path().join("more");
    let twice = text.place.run(&["grow", output, more.to_str().unwrap()]);
    assert!(
        words(&twice).contains("1024 picture codes already"),
        "{}",
        words(&twice)
    );
}

/// A run that grows the model equals a run from the output of `demask grow`, and grows it once even if it is killed.
#[tokio::test]
async fn l1_l8_a_run_grows_once() {
    let text = Published::new("llada");
    let output = text.place.path().join("grown");
    let grown = grow(&text, &output, &["--size", "32", "--seed", "5"]);
    assert!(grown.status.success(), "{}", words(&grown));
    let profile = |start: &Path, more: &str| {
        format!(
            "name = \"grows\"\nstart_from = {start:?}\n{more}\n[engine]\ndevice = \"cpu\"\ndtype = \"f32\"\nthreads = 1\n\
             [checkpoint]\nevery_steps = 1\n[[source]]\nname = \"draw\"\nkind = \"tabletop_draw\"\n\
             [[stage]]\nname = \"draw\"\nkind = \"pretrain\"\nsteps = 6\nbatch = 4\n"
        )
    };
    let grows = format!(
        "image_tokenizer_from = {:?}\ngrow = {{ codebook_size = 1024, seed = 5 }}",
        text.image_tokenizer
    );
    let mut ends = Vec::new();
    for (start, more, kill) in [
        (&output, "", false),
        (&text.folder, grows.as_str(), false),
        (&text.folder, grows.as_str(), true),
    ] {
        let mut place = Place::default();
        let last = finish(&mut place, &profile(start, more), kill).await;
        let read = |name: &str| std::fs::read(last.join(name)).unwrap();
        assert!(!read("image_tokenizer/model.safetensors").is_empty());
        ends.push(["model.safetensors", "config.json", "prompts.json", "budgets.json"].map(read));
    }
    assert!(ends[0] == ends[1], "the same by the command and by the profile");
    assert!(ends[1] == ends[2], "the same with a kill");
    let config: Value = serde_json::from_slice(&ends[0][1]).unwrap();
    assert_eq!(
        (&config["codebook_size"], &config["vocab_size"]),
        (&json!(1024), &json!(2560))
    );
}
