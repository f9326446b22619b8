//! Published folders through the built programs: the shipped model in MMaDA's clothes, so that answers can be right.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Output;

use demask_tests::Place;
use serde_json::{Value, json};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop");
/// Our special tokens and LLaDA's for the same roles.
const RENAMED: [(&str, &str); 6] = [
    ("<|soi|>", "<|reserved_token_0|>"),
    ("<|eoi|>", "<|reserved_token_1|>"),
    ("<|t2i|>", "<|reserved_token_4|>"),
    ("<|mmu|>", "<|reserved_token_5|>"),
    ("[iPAD]", "<|reserved_token_9|>"),
    ("<|r2i|>", "<|reserved_token_10|>"),
];

/// The shipped weights in a folder as MMaDA is published, and where its image tokenizer lies.
struct Published {
    place: Place,
    folder: PathBuf,
    image_tokenizer: PathBuf,
}

impl Published {
    fn new(family: &str) -> Self {
        let place = Place::default();
        let (folder, image_tokenizer) = (place.path().join("published"), place.path().join("magvitv2"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(&image_tokenizer).unwrap();
        let shipped = |name: &str| Path::new(SHIPPED).join(name);
        std::fs::copy(shipped("model.safetensors"), folder.join("model.safetensors")).unwrap();
        for name in ["config.json", "model.safetensors"] {
            let from = shipped("image_tokenizer").join(name);
            std::fs::copy(from, image_tokenizer.join(name)).unwrap();
        }
        let mut tokenizer = std::fs::read_to_string(shipped("tokenizer.json")).unwrap();
        for (ours, theirs) in RENAMED {
            tokenizer = tokenizer.replace(ours, theirs);
        }
        std::fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
        let text = std::fs::read_to_string(shipped("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["model_type"] = json!(family);
        if family == "llada" {
            config["codebook_size"] = json!(0);
        }
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        Self {
            place,
            folder,
            image_tokenizer,
        }
    }

    /// What a tokenizer of MMaDA's brings.
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

    /// The same with the image tokenizer, for pictures of 32 pixels.
    fn see(&self, arguments: &[&str]) -> Output {
        let beside = self.image_tokenizer.to_str().unwrap();
        self.run(&[arguments, &["--image-tokenizer", beside, "--size", "32"]].concat())
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

/// A sum as the shipped model was taught to be asked, mode and all.
const SUM: &str = "Ann has 5 pens and loses 2. How many pens? /no";

#[test]
fn it_answers_by_its_template() {
    let published = Published::new("mmada");
    let greedy = [
        "generate",
        SUM,
        "--no-think",
        "--temperature",
        "0",
        "--length",
        "4",
    ];
    assert_eq!(published.answer(&greedy), "3");
    // Its own template, of one line feed, is the same markup; one that hides the question is not.
    let template = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n' + \
                    m['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n' }}";
    let published = published.with_template(template);
    assert_eq!(published.answer(&greedy), "3");
    let published = published.with_template("{{ bos_token }}a red circle");
    assert_ne!(published.answer(&greedy), "3");
    assert_eq!(
        published.answer(&[&greedy[..], &["--as-published"]].concat()),
        "3"
    );
    let published = published.with_template("{{ raise_exception('nobody may ask') }}");
    let refused = published.run(&greedy);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("nobody may ask"), "{}", words(&refused));
}

#[test]
fn it_draws_after_the_published_layout() {
    let published = Published::new("mmada");
    let (report, ours) = published.drawn(&["--steps", "16", "--guidance", "1"]);
    assert_eq!(report["reads"], "a red circle", "{report}");
    let (report, again) = published.drawn(&["--steps", "16", "--guidance", "1", "--quirk", "attention=hard"]);
    assert_eq!((report["forwards"].as_u64(), &again), (Some(16), &ours));
    // Attending to all that padding is another picture.
    let (_, theirs) = published.drawn(&["--steps", "16", "--guidance", "1", "--as-published"]);
    assert_ne!(theirs, ours);
}

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
    for fit in ["crop", "squash", "pad"] {
        let asked = published.see(&["describe", file, "is there a circle? /no", "--fit", fit]);
        assert!(asked.status.success(), "{}", words(&asked));
        assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "yes", "{fit}");
    }
    let eval = published.see(&["eval", "tabletop-ask", "--limit", "4", "--json"]);
    let result: Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert_eq!(result["n"], 4, "{}", words(&eval));
}

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
    let greedy = ["generate", SUM, "--temperature", "0", "--length", "4"];
    assert_eq!(
        published.answer(&[&greedy[..], &["--quirk", "template=mmada"]].concat()),
        "3"
    );
    let drawing = published.see(&["imagine", "a red circle", "--output", "x.png"]);
    assert!(
        words(&drawing).contains("knows no pictures"),
        "{}",
        words(&drawing)
    );
}
