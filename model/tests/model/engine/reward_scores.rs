//! Scores of images and texts, requested from the engine, against `fixtures/reward-scores.json`: recordings
//! of transformers' CLIP (with its own preprocessing and tokenizer) and of ImageReward's published code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_api::{Answer, Picture, PictureScore, Request};
use demask_model::ModelError;
use demask_model::engine::Engine;
use demask_model::engine::device_choice::Place;
use serde::Deserialize;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn engine() -> Engine {
    Engine::new(Place::choose("cpu", "f32", Some(1)).unwrap())
}

fn load(
    engine: &mut Engine,
    clip: Option<PathBuf>,
    image_reward: Option<PathBuf>,
) -> Result<u64, ModelError> {
    let request = Request::LoadReward { clip, image_reward };
    match engine.handle(request, &mut |_| ())? {
        Answer::RewardLoaded { parameters } => Ok(parameters),
        other => panic!("{other:?}"),
    }
}

fn score(engine: &mut Engine, pairs: &[(Picture, String)]) -> Result<Vec<PictureScore>, ModelError> {
    let (pictures, texts) = pairs.iter().cloned().unzip();
    match engine.handle(Request::Score { pictures, texts }, &mut |_| ())? {
        Answer::Scores { scores, .. } => Ok(scores),
        other => panic!("{other:?}"),
    }
}

/// Returns the image that the recording was made from.
fn given(width: usize, height: usize) -> Picture {
    let byte = |at: usize| ((at * at * 7 + at * 13 + 5) % 251) as u8;
    Picture {
        width,
        height,
        rgb: (0..3 * width * height).map(byte).collect(),
    }
}

#[derive(Deserialize)]
struct Recorded {
    width: usize,
    height: usize,
    text: String,
    cosine: f64,
    image_reward: f64,
}

fn recorded() -> Vec<Recorded> {
    let text = std::fs::read_to_string(fixture("reward-scores.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn pairs() -> Vec<(Picture, String)> {
    let pair = |one: Recorded| (given(one.width, one.height), one.text);
    recorded().into_iter().map(pair).collect()
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!(
        (found - expected).abs() < 1e-4 * expected.abs().max(1.0),
        "{found}, expected {expected}"
    );
}

#[test]
fn pictures_of_any_size_are_scored_as_published() {
    let mut engine = engine();
    let parameters = load(&mut engine, Some(fixture("clip")), Some(fixture("image-reward"))).unwrap();
    assert!(parameters > 100_000);
    let scores = score(&mut engine, &pairs()).unwrap();
    assert_eq!(scores.len(), 4);
    for (found, expected) in scores.iter().zip(recorded()) {
        near(found.cosine, expected.cosine);
        near(found.image_reward, expected.image_reward);
    }
}

#[test]
fn a_score_does_not_depend_on_its_batch_and_many_come_in_their_order() {
    let mut engine = engine();
    load(&mut engine, Some(fixture("clip")), Some(fixture("image-reward"))).unwrap();
    let many: Vec<_> = pairs().into_iter().cycle().take(37).collect();
    let scores = score(&mut engine, &many).unwrap();
    assert_eq!(scores.len(), 37);
    for (pair, together) in many.iter().zip(&scores).skip(30) {
        let alone = score(&mut engine, std::slice::from_ref(pair)).unwrap()[0];
        near(alone.cosine, together.cosine.unwrap());
        near(alone.image_reward, together.image_reward.unwrap());
    }
    assert!(score(&mut engine, &[]).unwrap().is_empty());
}

#[test]
fn only_the_networks_that_are_loaded_speak_and_a_failed_load_changes_nothing() {
    let mut engine = engine();
    let error = score(&mut engine, &pairs()).unwrap_err().to_string();
    assert!(error.contains("load_reward"), "{error}");
    load(&mut engine, None, Some(fixture("image-reward"))).unwrap();
    let only = score(&mut engine, &pairs()).unwrap();
    assert_eq!(only.len(), pairs().len());
    assert!(
        only.iter()
            .all(|score| score.cosine.is_none() && score.image_reward.is_some())
    );
    for (folder, words) in [("backbone-gqa", "tensor"), ("nowhere", "config.json")] {
        let error = load(&mut engine, Some(fixture(folder)), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(score(&mut engine, &pairs()).unwrap(), only);
    }
    assert_eq!(load(&mut engine, None, None).unwrap(), 0);
    assert!(score(&mut engine, &pairs()).is_err());
}

/// Pictures whose size and bytes disagree or that are too large, and lists of different lengths, are refused
/// with their numbers.
#[test]
fn what_cannot_be_scored_is_refused() {
    let mut engine = engine();
    load(&mut engine, Some(fixture("clip")), Some(fixture("image-reward"))).unwrap();
    let text = || "a red circle".to_owned();
    let picture = |width, height, bytes| Picture {
        width,
        height,
        rgb: vec![0; bytes],
    };
    for (bad, words) in [
        (picture(0, 0, 0), "0 x 0"),
        (picture(4, 4, 47), "47 bytes"),
        (picture(usize::MAX, 3, 9), "9 bytes"),
        (picture(10_000_000, 1, 30_000_000), "at most"),
    ] {
        let error = score(&mut engine, &[(bad, text())]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let request = Request::Score {
        pictures: vec![given(22, 22)],
        texts: Vec::new(),
    };
    let error = engine.handle(request, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("1 pictures and 0 texts"), "{error}");
}

/// Returns a folder with CLIP's fixture and the given `preprocessor_config.json`.
fn prepared(config: &serde_json::Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(fixture("clip").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("preprocessor_config.json"), config.to_string()).unwrap();
    dir
}

/// CLIP's `preprocessor_config.json` is obeyed: an equal file gives equal scores, another mean gives others,
/// and settings that are not supported are refused by name.
#[test]
fn the_image_processor_s_own_file_decides() {
    let mut engine = engine();
    load(&mut engine, Some(fixture("clip")), None).unwrap();
    let plain = score(&mut engine, &pairs()).unwrap();
    let same = serde_json::json!({
        "do_resize": true, "size": {"shortest_edge": 22}, "resample": 3, "do_center_crop": true, "crop_size": 22,
        "do_rescale": true, "do_normalize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "feature_extractor_type": "CLIPFeatureExtractor",
    });
    let dir = prepared(&same);
    load(&mut engine, Some(dir.path().to_owned()), None).unwrap();
    assert_eq!(score(&mut engine, &pairs()).unwrap(), plain);
    let mut other = same.clone();
    other["image_mean"] = serde_json::json!([0.5, 0.5, 0.5]);
    let dir = prepared(&other);
    load(&mut engine, Some(dir.path().to_owned()), None).unwrap();
    assert_ne!(score(&mut engine, &pairs()).unwrap(), plain);
    for (key, value, words) in [
        (
            "crop_size",
            serde_json::json!({"height": 20, "width": 20}),
            "20 x 20",
        ),
        ("size", serde_json::json!(21), "Shorter(21)"),
        ("resample", serde_json::json!(1), "resample is 1"),
        ("do_center_crop", serde_json::json!(false), "do_center_crop"),
    ] {
        let mut config = same.clone();
        config[key] = value;
        let error = load(&mut engine, Some(prepared(&config).path().to_owned()), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("preprocessor_config.json") && error.contains(words),
            "{error}"
        );
    }
}
