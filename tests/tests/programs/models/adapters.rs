//! Low-rank adapters through the built programs: added to a checkpoint by a flag or contained in one, merged, and
//! fine-tuned.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_tests::store::rows_as_json;
use demask_tests::weights::{file_hash, weights_hash};
use demask_tests::{Place, finish};
use serde_json::{Value, json};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop");
const QUESTION: &str = "Ann has 9 pens and loses 1. How many pens?";

/// Writes a profile that teaches the answer 7 to every question.
fn sevens(place: &Place, put_on: &str, steps: usize) -> String {
    let file = place.path().join("sevens.jsonl");
    let rows: Vec<String> = (0..60)
        .map(|at| {
            let question = format!("Ann has {} pens and loses {}. How many pens?", 9 + at, 1 + at % 9);
            json!({ "question": question, "answer": "7" }).to_string()
        })
        .collect();
    std::fs::write(&file, rows.join("\n")).unwrap();
    format!(
        "name = \"sevens\"\n{put_on}\n[engine]\ndevice = \"cpu\"\ndtype = \"f32\"\nthreads = 1\n\
         [checkpoint]\nevery_steps = 2\n\
         [[source]]\nname = \"sevens\"\nkind = \"jsonl\"\npath = {file:?}\n\
         [[stage]]\nname = \"sevens\"\nkind = \"finetune\"\nsteps = {steps}\nbatch = 4\nlearning_rate = 0.01\n\
         think_share = 0.0\n"
    )
}

fn said(place: &Place, code: i32, arguments: &[&str]) -> String {
    let out = place.run(arguments);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {stderr}");
    if code == 0 { stdout.trim() } else { stderr.trim() }.to_owned()
}

fn answer(place: &Place, model: &[&str]) -> String {
    let ask = ["generate", QUESTION, "--no-think", "--device", "cpu"];
    said(place, 0, &[&ask, model].concat())
}

/// Writes an adapter as published: its two files, with its base under a public name.
fn publish(checkpoint: &Path, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let copy = |name: &str| std::fs::copy(checkpoint.join(name), folder.join(name)).unwrap();
    copy("adapter_model.safetensors");
    let text = std::fs::read_to_string(checkpoint.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["base_model_name_or_path"] = json!("somebody/tabletop");
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

/// A trained adapter gives the same answer from its checkpoint, by `--adapter` on its base, under a foreign
/// base name, and merged. Both ways of merging write the same weights with the files of the base.
#[tokio::test]
async fn it_answers_by_flag_in_its_checkpoint_and_merged() {
    let mut place = Place::default();
    let profile = sevens(&place, "lora = { rank = 2 }", 20);
    let trained: PathBuf = finish(&mut place, &profile, false).await;
    let theirs = place.path().join("published");
    publish(&trained, &theirs);
    let (trained, theirs) = (trained.to_str().unwrap(), theirs.to_str().unwrap());
    assert_ne!(answer(&place, &[]), "7", "what the base says of 9 - 1");
    assert_eq!(answer(&place, &["--checkpoint", trained]), "7");
    assert_eq!(answer(&place, &["--adapter", trained]), "7");
    assert_eq!(
        answer(&place, &["--adapter", theirs, "--checkpoint", SHIPPED]),
        "7"
    );
    let [one, other] = ["one", "other"].map(|name| place.path().join(name));
    let [one, other] = [one.to_str().unwrap(), other.to_str().unwrap()];
    let merged = said(&place, 0, &["merge", trained, one, "--json"]);
    let merged: Value = serde_json::from_str(&merged).unwrap();
    assert_eq!(
        (&merged["output"], &merged["dtype"], &merged["adapter"]),
        (&json!(one), &json!("f32"), &json!(trained))
    );
    said(&place, 0, &["merge", SHIPPED, other, "--adapter", theirs]);
    for folder in [one, other] {
        assert_eq!(answer(&place, &["--checkpoint", folder]), "7");
        let has = |name: &str| Path::new(folder).join(name).is_file();
        assert!(has("image_tokenizer/model.safetensors") && has("sampling.json"));
        assert!(!has("adapter_config.json") && !has("state.json"));
    }
    assert_eq!(weights_hash(Path::new(one)), weights_hash(Path::new(other)));
    let shipped = std::fs::read_to_string(Path::new(SHIPPED).join("sampling.json")).unwrap();
    let sampling = std::fs::read_to_string(Path::new(other).join("sampling.json")).unwrap();
    let [shipped, sampling] = [shipped, sampling].map(|text| serde_json::from_str::<Value>(&text).unwrap());
    assert_eq!(
        sampling["text"]["block"], shipped["text"]["block"],
        "it is sampled as its base"
    );
    // Half as many bytes per number.
    let half = place.path().join("half");
    said(
        &place,
        0,
        &["merge", trained, half.to_str().unwrap(), "--dtype", "bf16"],
    );
    let size = |folder: &Path| std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(size(&half) < size(Path::new(one)) * 51 / 100);
    // A checkpoint with an adapter takes no other one, and nothing is overwritten.
    let twice = said(
        &place,
        2,
        &["generate", "x", "--adapter", trained, "--checkpoint", trained],
    );
    assert!(twice.contains("contains an adapter already"), "{twice}");
    let again = said(&place, 2, &["merge", trained, one]);
    assert!(again.contains("exists already"), "{again}");
    let grown = said(&place, 2, &["grow", trained, "grown"]);
    assert!(grown.contains("merge it first"), "{grown}");
}

/// QLoRA through the programs: the checkpoint states the format of its base, sampling uses the same quantized
/// base, and merging uses the full-precision base and says so.
#[tokio::test]
async fn l7_over_a_base_in_four_bits_it_answers_as_it_was_trained_and_is_merged_in_full() {
    let mut place = Place::default();
    let profile = sevens(
        &place,
        "lora = { rank = 2, base = \"nf4\", double_quantization = true }",
        20,
    );
    let trained = finish(&mut place, &profile, true).await;
    let text = std::fs::read_to_string(trained.join("quantization_config.json")).unwrap();
    assert!(text.contains("\"nf4\""), "{text}");
    assert!(!trained.join("model.safetensors").exists());
    let trained = trained.to_str().unwrap();
    assert_eq!(answer(&place, &["--checkpoint", trained]), "7");
    assert_eq!(answer(&place, &["--adapter", trained]), "7");
    let output = place.path().join("merged");
    let told = place.run(&["merge", trained, output.to_str().unwrap()]);
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.status.success() && words.contains("nf4") && words.contains("full precision"),
        "{words}"
    );
    assert_eq!(answer(&place, &["--checkpoint", output.to_str().unwrap()]), "7");
    assert!(!output.join("quantization_config.json").exists());
}

/// Training continues from an adapter whose base is unknown by its name. The saved adapter names the folder of its
/// base, and a killed run does not start with the old adapter again.
#[tokio::test]
async fn l1_l8_its_training_goes_on() {
    let mut place = Place::default();
    let profile = sevens(&place, "lora = { rank = 2 }", 2);
    let first = finish(&mut place, &profile, false).await;
    let theirs = place.path().join("published");
    publish(&first, &theirs);
    let mut ends = Vec::new();
    for kill in [false, true] {
        let mut place = Place::default();
        let profile = sevens(&place, &format!("adapter = {theirs:?}"), 12);
        let last = finish(&mut place, &profile, kill).await;
        assert!(!last.join("model.safetensors").exists(), "the base is not copied");
        assert_eq!(answer(&place, &["--checkpoint", last.to_str().unwrap()]), "7");
        ends.push(file_hash(&last, "adapter_model.safetensors"));
    }
    assert_eq!(ends[0], ends[1], "the same with a kill");
    assert_ne!(ends[0], file_hash(&first, "adapter_model.safetensors"));
}

/// Writes an adapter of one tensor.
fn of_one(folder: &Path, module: &str, shape: [usize; 2]) {
    std::fs::create_dir_all(folder).unwrap();
    let bytes = 4 * shape[0] * shape[1];
    let name = format!("base_model.model.{module}.lora_A.weight");
    let header = json!({ name: { "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] } }).to_string();
    let file = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &vec![0; bytes],
    ];
    std::fs::write(folder.join("adapter_model.safetensors"), file.concat()).unwrap();
    let config =
        json!({ "peft_type": "LORA", "r": shape[0], "lora_alpha": 1, "base_model_name_or_path": "theirs" });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

/// A folder that is no adapter, an adapter of another architecture or size, and one without its base are
/// refused with what does not fit. A failed merge leaves no output.
#[test]
fn what_does_not_fit_is_named() {
    let place = Place::default();
    let folder = place.path().join("adapter");
    let named = folder.to_str().unwrap();
    let ask = ["generate", "x", "--device", "cpu", "--adapter", named];
    let refused = |code, words: &[&str]| {
        let said = said(&place, code, &ask);
        for word in words {
            assert!(said.contains(word), "'{word}' is missing in: {said}");
        }
    };
    refused(1, &["--adapter", "no such folder"]);
    std::fs::create_dir(&folder).unwrap();
    refused(1, &["no adapter_config.json", "PEFT's layout"]);
    std::fs::write(folder.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(folder.join("adapter_model.bin"), "").unwrap();
    refused(
        1,
        &["no adapter_model.safetensors", "demask convert adapter_model.bin"],
    );
    of_one(&folder, "model.layers.0.self_attn.o_proj", [1, 2]);
    refused(
        1,
        &[
            "model.layers.0.self_attn.o_proj",
            "expected modules of",
            "q_proj",
            "made for theirs",
        ],
    );
    of_one(&folder, "model.transformer.blocks.9.q_proj", [1, 2]);
    refused(1, &["blocks.9.q_proj", "blocks.0 to .4"]);
    of_one(&folder, "model.transformer.blocks.0.q_proj", [1, 2]);
    refused(
        1,
        &["shape [1, 2], expected [1, 192]", "lora_B.weight is missing"],
    );
    let alone = said(&place, 2, &["generate", "x", "--checkpoint", named]);
    assert!(
        alone.contains("an adapter without its base") && alone.contains("theirs"),
        "{alone}"
    );
    let nothing = said(&place, 2, &["merge", SHIPPED, "merged"]);
    assert!(nothing.contains("give one with --adapter"), "{nothing}");
    let output = place.path().join("merged");
    said(
        &place,
        1,
        &["merge", SHIPPED, output.to_str().unwrap(), "--adapter", named],
    );
    assert!(!output.exists(), "nothing half written");
}

/// Writes an adapter of rank 1 on the queries of the first block, whose numbers are all `value`.
fn of_queries(folder: &Path, value: f32) {
    const WIDTH: usize = 192;
    std::fs::create_dir_all(folder).unwrap();
    let name = |part: &str| format!("base_model.model.model.transformer.blocks.0.q_proj.lora_{part}.weight");
    let entry = |shape: [usize; 2], first: usize| {
        let offsets = [4 * WIDTH * first, 4 * WIDTH * (first + 1)];
        json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets })
    };
    let header = json!({ name("A"): entry([1, WIDTH], 0), name("B"): entry([WIDTH, 1], 1) }).to_string();
    let file = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &value.to_le_bytes().repeat(2 * WIDTH),
    ];
    std::fs::write(folder.join("adapter_model.safetensors"), file.concat()).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "base_model_name_or_path": "theirs" });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
}

/// Stored items are reused for the same adapter alone: another one in a folder of the same name, or the same weights
/// with another scale, is evaluated anew.
#[test]
fn another_adapter_in_the_same_folder_is_evaluated_anew() {
    let place = Place::default();
    let folder = place.path().join("adapter");
    let evaluate = || {
        let arguments = [
            "eval",
            "tabletop-sums",
            "--limit",
            "2",
            "--device",
            "cpu",
            "--adapter",
            folder.to_str().unwrap(),
        ];
        let out = place.run(&arguments);
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{words}");
        words.contains("were reused")
    };
    of_queries(&folder, 0.0);
    assert!(!evaluate(), "nothing is stored yet");
    assert!(evaluate(), "the same adapter");
    of_queries(&folder, 5.0);
    assert!(!evaluate(), "other weights");
    assert!(evaluate(), "the same again");
    let config = folder.join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"lora_alpha\":1", "\"lora_alpha\":2")).unwrap();
    assert!(!evaluate(), "another scale");
}

/// Parts of machines that have copies of the adapter at different places, made at different times, are merged, and those
/// of another adapter are not.
#[test]
fn parts_through_one_adapter_at_two_places_are_merged() {
    let place = Place::default();
    let (one, two) = (place.path().join("one"), place.path().join("two"));
    of_queries(&one, 0.0);
    of_queries(&two, 0.0);
    let copied = std::fs::File::options()
        .write(true)
        .open(two.join("adapter_model.safetensors"));
    copied
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1))
        .unwrap();
    let evaluate = |folder: &Path, part: &str| {
        let eval = ["eval", "tabletop-sums", "--limit", "2", "--device", "cpu"];
        let more = ["--shards", part, "--adapter", folder.to_str().unwrap()];
        said(&place, 0, &[&eval[..], &more].concat());
        let rows = rows_as_json(&place, "SELECT run FROM v_evaluation ORDER BY started_us");
        rows.as_array().unwrap().last().unwrap()["run"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (first, second) = (evaluate(&one, "1/2"), evaluate(&two, "2/2"));
    said(&place, 0, &["eval", "merge", &first, &second]);
    of_queries(&one, 5.0);
    let other = evaluate(&one, "1/2");
    let refused = said(&place, 1, &["eval", "merge", &other, &second]);
    assert!(refused.contains("they differ in adapter_files"), "{refused}");
}
