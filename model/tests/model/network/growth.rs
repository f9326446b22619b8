//! Growing a text model by the embeddings of image codes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::numbers;
use demask_api::{BackboneConfig, Growth, LoadOptions, Purpose};
use demask_model::Backbone;
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::training::optimizer::AdamW;
use tch::{Device, Kind};

/// Saves a model of twelve text tokens, of which its tokenizer knows ten, without image codes.
fn text_model(tied: bool) -> (tempfile::TempDir, PathBuf, Backbone) {
    let config = BackboneConfig {
        vocab_size: 12,
        codebook_size: 0,
        image_token_offset: Some(10),
        weight_tying: tied,
        include_bias: true,
        ..crate::common::config()
    };
    let backbone = Backbone::fresh(&config, 3, Device::Cpu, Kind::Float).unwrap();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("text");
    let model = LoadedModel {
        optimizer: AdamW::new(backbone.parameters()).unwrap(),
        backbone,
        tokenizer: None,
    };
    model.save(&dir, &BTreeMap::new(), false).unwrap();
    (place, dir, model.backbone)
}

fn grow(dir: &Path, purpose: Purpose, seed: u64) -> Result<LoadedModel, String> {
    let options = LoadOptions {
        purpose,
        grow: Some(Growth {
            codebook_size: 8,
            seed,
        }),
        ..LoadOptions::default()
    };
    LoadedModel::load_with(dir, false, &options, Device::Cpu, Kind::Float).map_err(|error| error.to_string())
}

/// Growing adds one row per image code to the embedding and the head, and keeps all existing rows. New rows
/// are the mean of the existing ones with a little noise: identical rows would receive identical gradients
/// and stay identical. A grown model saves and loads again.
#[test]
fn embedding_and_head_grow_by_the_codes() {
    for (tied, purpose) in [
        (false, Purpose::Train),
        (false, Purpose::Sample),
        (true, Purpose::Train),
    ] {
        let (place, dir, text) = text_model(tied);
        let model = grow(&dir, purpose, 1).unwrap();
        let config = model.backbone.config().clone();
        assert_eq!(
            (config.rows(), config.codebook_size, config.image_offset()),
            (20, 8, 10)
        );
        let (old, new) = (
            text.parameters().named().unwrap(),
            model.backbone.parameters().named().unwrap(),
        );
        let mut grown = 0;
        for (name, value) in &new {
            let before = &old[name];
            let rows = before.size()[0];
            assert_eq!(numbers(&value.narrow(0, 0, rows)), numbers(before), "{name}");
            if value.size() == before.size() {
                continue;
            }
            grown += 1;
            let mean = before.mean_dim(&[0i64][..], false, Kind::Float);
            let gap = (value.narrow(0, rows, 8) - mean).abs().max().double_value(&[]);
            let spread = before.abs().max().double_value(&[]).max(1e-9);
            assert!(gap < 2e-4 * spread + 1e-9, "{name}: {gap}");
            if before.dim() == 2 {
                assert!(gap > 0.0, "{name}: rows that are the same learn the same");
            }
        }
        assert_eq!(grown, if tied { 1 } else { 3 });
        let out = place.path().join("grown");
        model.save(&out, &BTreeMap::new(), false).unwrap();
        let back = Backbone::load(&out, Device::Cpu, Kind::Float).unwrap();
        assert_eq!(back.config(), &config);
    }
}

#[test]
fn l8_the_seed_says_which_noise() {
    let (_place, dir, _) = text_model(false);
    let table = |seed| {
        let model = grow(&dir, Purpose::Train, seed).unwrap();
        numbers(&model.backbone.parameters().named().unwrap()["model.transformer.wte.weight"])
    };
    assert_eq!(table(1), table(1));
    assert_ne!(table(1), table(2));
}

/// A model that has picture codes already, or whose text vocabulary has an unknown length, cannot grow.
#[test]
fn what_cannot_grow_is_refused() {
    let (place, dir, _) = text_model(false);
    let out = place.path().join("grown");
    grow(&dir, Purpose::Train, 1)
        .unwrap()
        .save(&out, &BTreeMap::new(), false)
        .unwrap();
    let message = grow(&out, Purpose::Train, 1).map(|_| ()).unwrap_err();
    assert!(
        message.contains("the model has 8 picture codes already"),
        "{message}"
    );
    // Without a tokenizer or LLaDA's vocabulary the offset of the image codes is unknown.
    std::fs::remove_file(dir.join("manifest.json")).unwrap();
    let file = dir.join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("\"image_token_offset\": 10", "\"image_token_offset\": null"),
    )
    .unwrap();
    let message = grow(&dir, Purpose::Train, 1).map(|_| ()).unwrap_err();
    assert!(
        message.contains("tokenizer.json: the file is missing"),
        "{message}"
    );
}
