//! A checkpoint loads as it was saved, bit for bit. A broken checkpoint is reported with what was expected
//! and what was found.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::{learner, numbers, ragged, settings};
use demask_api::{EngineError, StepSettings};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use demask_model::training;
use demask_model::weights::safetensors;
use tch::{Device, Kind};

/// Returns a model after two training steps, with a moving average and an image tokenizer.
fn model(kind: Kind) -> LoadedModel {
    let backbone = demask_model::Backbone::fresh(&crate::common::config(), 1, Device::Cpu, kind).unwrap();
    let optimizer = demask_model::training::optimizer::AdamW::new(backbone.parameters()).unwrap();
    let mut tokenizer = ImageTokenizer::fresh(&crate::common::tokenizer_config(), 2, Device::Cpu).unwrap();
    let mut training = TokenizerTrainer::new(&tokenizer).unwrap();
    let picture = demask_api::Picture::filled(4, 4, [10, 200, 70]);
    training.step(&mut tokenizer, &[picture], &settings(0)).unwrap();
    let mut model = LoadedModel {
        backbone,
        optimizer,
        tokenizer: Some((tokenizer, training)),
    };
    for seed in 0..2 {
        step(&mut model, seed);
    }
    model
}

fn step(model: &mut LoadedModel, seed: u64) {
    let settings = StepSettings {
        ema: 0.9,
        ..settings(seed)
    };
    training::train(&mut model.backbone, &mut model.optimizer, &[ragged()], &settings).unwrap();
}

fn state(model: &LoadedModel) -> Vec<(String, Vec<f64>)> {
    let mut all = crate::common::state(model.backbone.parameters(), &model.optimizer);
    let (tokenizer, training) = model.tokenizer.as_ref().unwrap();
    all.push(("pixels".into(), numbers(tokenizer.parameters().master())));
    let training = training.state("tokenizer").unwrap();
    all.extend(
        training
            .into_iter()
            .map(|(name, tensor)| (name, numbers(&tensor))),
    );
    all
}

/// Saves a model to a temporary folder.
fn saved(optimizer: bool) -> (tempfile::TempDir, PathBuf, LoadedModel) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("checkpoint");
    let model = model(Kind::Float);
    let attach = BTreeMap::from([("state.json".to_owned(), "{}".to_owned())]);
    model.save(&dir, &attach, optimizer).unwrap();
    (place, dir, model)
}

fn refusal(dir: &Path, resume: bool) -> String {
    let error = LoadedModel::load(dir, resume, Device::Cpu, Kind::Float)
        .err()
        .unwrap();
    EngineError::from(error).to_string()
}

#[test]
fn l8_a_checkpoint_comes_back_bit_for_bit_and_goes_on_bit_for_bit() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("a/b/checkpoint");
        let mut model = model(kind);
        let saved = model.save(&dir, &BTreeMap::new(), true).unwrap();
        let mut back = LoadedModel::load(&dir, true, Device::Cpu, kind).unwrap();
        assert_eq!(back.optimizer.step_count(), 2);
        assert_eq!(state(&back), state(&model));
        let again = back
            .save(&place.path().join("again"), &BTreeMap::new(), true)
            .unwrap();
        assert_eq!(again, saved, "the same state has the same hash");
        step(&mut model, 7);
        step(&mut back, 7);
        assert_eq!(state(&back), state(&model));
    }
}

#[test]
fn a_folder_holds_what_its_manifest_lists_and_nothing_else() {
    let (place, dir, _) = saved(true);
    let text = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    let manifest: demask_api::Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!((manifest.version, manifest.step), (1, 2));
    let names: Vec<_> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    let expected = [
        "config.json",
        "image_tokenizer/config.json",
        "image_tokenizer/model.safetensors",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 6);
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        1,
        "no working folder stays"
    );
}

/// A changed, truncated or missing file of a checkpoint is reported with its path, and with the hashes or
/// sizes that were expected and found.
#[test]
fn every_broken_file_is_named() {
    let expected = [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "image_tokenizer/model.safetensors",
    ];
    for name in expected {
        let (_place, dir, _) = saved(true);
        let file = dir.join(name);
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        let last = flipped.len() - 3;
        flipped[last] ^= 4;
        let (path, size) = (file.display().to_string(), whole.len());
        let check = |words: &[String]| {
            let message = refusal(&dir, true);
            for word in words {
                assert!(message.contains(word.as_str()), "{message} lacks {word}");
            }
        };
        std::fs::write(&file, &flipped).unwrap();
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        check(&[path.clone(), hash(&whole), hash(&flipped), "was changed".into()]);
        std::fs::write(&file, &whole[..size / 2]).unwrap();
        check(&[
            path.clone(),
            format!("{} bytes", size / 2),
            format!("says {size}"),
            "truncated".into(),
        ]);
        std::fs::remove_file(&file).unwrap();
        check(&[
            path.clone(),
            format!("missing; the manifest lists it with {size} bytes"),
        ]);
    }
}

#[test]
fn a_lost_or_broken_manifest_is_named() {
    let (_place, dir, _) = saved(true);
    let file = dir.join("manifest.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    assert!(refusal(&dir, false).contains("manifest.json: the layout version is 9, expected 1"));
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    assert!(refusal(&dir, false).contains("manifest.json: this is not a manifest"));
    std::fs::remove_file(&file).unwrap();
    assert!(refusal(&dir, false).contains("manifest.json is missing"));
    let nowhere = dir.join("nowhere");
    assert!(refusal(&nowhere, false).contains("nowhere: there is no such folder"));
    std::fs::create_dir(&nowhere).unwrap();
    assert!(refusal(&nowhere, false).contains("neither manifest.json nor config.json"));
}

#[test]
fn a_checkpoint_without_moments_is_not_resumed() {
    let (_place, dir, model) = saved(false);
    assert!(refusal(&dir, true).contains("cannot be resumed"));
    let back = LoadedModel::load(&dir, false, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(
        back.backbone.parameters().master(),
        model.backbone.parameters().master()
    );
    assert_eq!(back.optimizer.step_count(), 0);
}

/// A truncated weights file is reported even without a manifest that would reveal the damage.
#[test]
fn a_truncated_published_file_is_named() {
    let (_place, dir, _) = saved(false);
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    LoadedModel::load(&dir, false, Device::Cpu, Kind::Float).unwrap();
    let file = dir.join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for length in [0, 5, 40, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let message = refusal(&dir, false);
        assert!(
            message.contains("model.safetensors") && message.contains("not a complete"),
            "{message}"
        );
    }
}

/// Saving to an existing checkpoint is refused, and so are attached files with reserved, hidden or escaping
/// names. A refused save leaves nothing behind.
#[test]
fn a_checkpoint_is_never_overwritten_and_its_own_names_are_not_given_away() {
    let (place, dir, model) = saved(false);
    let before = std::fs::read(dir.join("manifest.json")).unwrap();
    let message = model.save(&dir, &BTreeMap::new(), true).unwrap_err().to_string();
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(std::fs::read(dir.join("manifest.json")).unwrap(), before);
    for name in [
        "manifest.json",
        "optimizer.safetensors",
        "image_tokenizer",
        "../x",
        ".hidden",
        "",
    ] {
        let attach = BTreeMap::from([(name.to_owned(), String::new())]);
        let message = model
            .save(&place.path().join("other"), &attach, false)
            .unwrap_err()
            .to_string();
        assert!(message.contains("cannot take a file named"), "{message}");
    }
    assert_eq!(
        std::fs::read_dir(place.path()).unwrap().count(),
        1,
        "nothing half written stays"
    );
}

/// A save removes what a killed engine left of an earlier save to the same name, but not the files of a save
/// that a living engine is writing.
#[test]
fn l1_the_rest_of_a_killed_save_is_removed() {
    let (place, _, model) = saved(false);
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let mut living = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let rest = |pid: u32| place.path().join(format!(".next.{pid}.demask-saving"));
    let theirs = place.path().join(format!(".next.{}", ended.id()));
    std::fs::create_dir(&theirs).unwrap();
    for pid in [ended.id(), living.id()] {
        std::fs::create_dir(rest(pid)).unwrap();
        std::fs::write(rest(pid).join("model.safetensors"), "half").unwrap();
    }
    std::fs::create_dir(place.path().join(".next.backup")).unwrap();
    model
        .save(&place.path().join("next"), &BTreeMap::new(), false)
        .unwrap();
    let kept = [
        rest(ended.id()).exists(),
        rest(living.id()).exists(),
        place.path().join(".next.backup").exists(),
        theirs.exists(),
    ];
    living.kill().unwrap();
    living.wait().unwrap();
    assert_eq!(
        kept,
        [false, true, true, true],
        "a folder that is no save's is somebody's"
    );
}

#[test]
fn the_moving_average_can_be_taken_for_the_weights() {
    let (_place, dir, model) = saved(true);
    let average = model.optimizer.state("o").unwrap().remove("o.average").unwrap();
    let back = LoadedModel::load(&dir, false, Device::Cpu, Kind::Float).unwrap();
    back.take_average(&dir, false).unwrap();
    assert_eq!(back.backbone.parameters().master(), &average);
    assert_ne!(&average, model.backbone.parameters().master());
    assert!(
        back.take_average(&dir, true)
            .unwrap_err()
            .to_string()
            .contains("resume")
    );
    let (_place, without, _) = saved(false);
    let message = back.take_average(&without, false).unwrap_err().to_string();
    assert!(
        message.contains("optimizer.safetensors: there is no moving average"),
        "{message}"
    );
}

/// A full disk is reported as such. `/dev/full` stands in for a disk without free space.
#[test]
fn a_full_disk_is_said_to_be_full() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        println!("skipped: no /dev/full");
        return;
    }
    let (backbone, _) = learner(1);
    let error = safetensors::write(full, &backbone.parameters().named().unwrap(), None).unwrap_err();
    let EngineError::Io { path, full, .. } = EngineError::from(error) else {
        panic!("another error");
    };
    assert!(full && path == "/dev/full");
}
