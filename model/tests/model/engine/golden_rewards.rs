//! The reward networks against recordings: CLIP by Hugging Face's transformers, ImageReward by its published code.
//!
//! `fixtures/clip` and `fixtures/image-reward` are networks with random weights. Where the whole set of recordings is
//! at hand (`DEMASK_SHARED`, or `shared` beside the repository), every reward network in it is checked too.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_model::engine::verify::verify;
use demask_model::reward_networks::{Clip, ImageRewardNetwork, RewardKind};
use demask_model::weights::safetensors;
use tch::{Device, Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn check(dir: &Path) {
    let checks = verify(dir, &dir.join("reference.safetensors"), Device::Cpu).unwrap();
    assert_eq!(checks.len(), 3, "{}: {checks:?}", dir.display());
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
    assert!(failed.is_empty(), "{}: {failed:#?}", dir.display());
}

#[test]
fn the_fixtures_are_reproduced() {
    check(&fixture("clip"));
    check(&fixture("image-reward"));
}

#[test]
fn every_recording_is_reproduced() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DEMASK_SHARED").map_or_else(beside, PathBuf::from);
    let Ok(folders) = std::fs::read_dir(shared.join("golden")) else {
        println!("skipped: no {}", shared.join("golden").display());
        return;
    };
    for dir in folders.map(|entry| entry.unwrap().path()) {
        let config = std::fs::read_to_string(dir.join("config.json")).unwrap_or_default();
        let config = serde_json::from_str(&config).unwrap_or(serde_json::Value::Null);
        if RewardKind::of(&config).is_some() {
            check(&dir);
        }
    }
}

/// Copies a fixture into a fresh folder and lets the test change its configuration and tensors.
fn altered(
    name: &str,
    config: impl Fn(&mut serde_json::Value),
    tensors: impl Fn(&mut std::collections::BTreeMap<String, Tensor>),
) -> tempfile::TempDir {
    let (from, to) = (fixture(name), tempfile::tempdir().unwrap());
    let text = std::fs::read_to_string(from.join("config.json")).unwrap();
    let mut value = serde_json::from_str(&text).unwrap();
    config(&mut value);
    std::fs::write(to.path().join("config.json"), value.to_string()).unwrap();
    let mut stored = safetensors::read(&from.join("model.safetensors")).unwrap();
    tensors(&mut stored);
    safetensors::write(&to.path().join("model.safetensors"), &stored, None).unwrap();
    to
}

fn same<T>(_: &mut T) {}

/// A reward network with a missing, unexpected or misshapen tensor is refused with the tensor's name.
#[test]
fn a_tensor_that_is_missing_extra_or_misshapen_is_named() {
    let head = "mlp.layers.4.weight";
    let name = "text_model.final_layer_norm.bias";
    let missing = altered("clip", same, |tensors| drop(tensors.remove(name)));
    let error = Clip::load(missing.path(), Device::Cpu).unwrap_err().to_string();
    assert!(
        error.contains(&format!("tensor {name} is missing, expected shape [24]")),
        "{error}"
    );
    let extra = altered("clip", same, |tensors| {
        tensors.insert(
            "logit_bias".into(),
            Tensor::zeros([1], (Kind::Float, Device::Cpu)),
        );
    });
    let error = Clip::load(extra.path(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("logit_bias"), "{error}");
    let misshapen = altered("image-reward", same, |tensors| {
        tensors.insert(head.into(), Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)));
    });
    let error = ImageRewardNetwork::load(misshapen.path(), Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(error.contains(head) && error.contains("[64, 128]"), "{error}");
}

#[test]
fn a_configuration_that_makes_no_network_is_refused() {
    for (key, field, value) in [
        ("text_config", "num_attention_heads", 0),
        ("text_config", "num_attention_heads", 7),
        ("vision_config", "patch_size", 0),
        ("vision_config", "patch_size", 23),
        ("vision_config", "num_hidden_layers", 4_000_000_000u64),
    ] {
        let dir = altered("clip", |config| config[key][field] = value.into(), same);
        let error = Clip::load(dir.path(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{key}.{field} = {value}: {error}");
    }
    let dir = altered(
        "clip",
        |config| config["text_config"]["hidden_act"] = "tanhshrink".into(),
        same,
    );
    let error = Clip::load(dir.path(), Device::Cpu).unwrap_err().to_string();
    assert!(
        error.contains("tanhshrink") && error.contains("quick_gelu"),
        "{error}"
    );
}

#[test]
fn what_is_published_beside_the_weights_but_not_of_the_reward_is_passed_over() {
    let dir = altered("image-reward", same, |tensors| {
        for name in ["blip.vision_proj.weight", "blip.text_proj.bias"] {
            tensors.insert(name.into(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
        }
        let positions = Tensor::arange(40, (Kind::Int64, Device::Cpu)).view([1, 40]);
        tensors.insert("blip.text_encoder.embeddings.position_ids".into(), positions);
    });
    std::fs::copy(
        fixture("image-reward").join("reference.safetensors"),
        dir.path().join("reference.safetensors"),
    )
    .unwrap();
    check(dir.path());
}

#[test]
fn texts_and_pixels_of_another_shape_are_refused_with_both() {
    let clip = Clip::load(&fixture("clip"), Device::Cpu).unwrap();
    let ids = |length: i64, id: i64| Tensor::full([1, length], id, (Kind::Int64, Device::Cpu));
    for (length, id, words) in [(16, 5, "16 tokens"), (3, 120, "120"), (3, -1, "-1")] {
        let ids = ids(length, id);
        let error = clip.text_embeds(&ids, &ids.ones_like()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let pixels = Tensor::zeros([1, 3, 22, 21], (Kind::Float, Device::Cpu));
    let error = clip.image_embeds(&pixels).unwrap_err().to_string();
    assert!(
        error.contains("[1, 3, 22, 21]") && error.contains("22, 22]"),
        "{error}"
    );
}

#[test]
fn padding_after_the_end_changes_no_text() {
    let clip = Clip::load(&fixture("clip"), Device::Cpu).unwrap();
    let row = [4i64, 9, 33, 119];
    let plain = Tensor::from_slice(&row).view([1, 4]);
    let alone = clip.text_embeds(&plain, &plain.ones_like()).unwrap();
    let padded = Tensor::from_slice(&[4i64, 9, 33, 119, 1, 1, 1]).view([1, 7]);
    let real = Tensor::from_slice(&[1i64, 1, 1, 1, 0, 0, 0]).view([1, 7]);
    let among = clip.text_embeds(&padded, &real).unwrap();
    assert!(alone.allclose(&among, 1e-5, 1e-6, false));
}

#[test]
fn without_a_configuration_the_published_one_of_the_text_encoder_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "reference.safetensors"] {
        std::fs::copy(fixture("image-reward").join(file), dir.path().join(file)).unwrap();
    }
    let loaded = || verify(dir.path(), &dir.path().join("reference.safetensors"), Device::Cpu);
    let error = loaded().unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    // With this file alone the vision transformer is the published one, whose tensor shapes differ from the
    // fixture's.
    let published = r#"{"hidden_size": 24, "num_hidden_layers": 1, "encoder_width": 768}"#;
    std::fs::write(dir.path().join("med_config.json"), published).unwrap();
    let error = loaded().unwrap_err().to_string();
    assert!(
        error.contains("cls_token") && error.contains("[1, 1, 1024]"),
        "{error}"
    );
}
