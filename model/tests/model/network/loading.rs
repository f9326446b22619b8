//! Loading of a model folder with one weights file or several, for training or sampling. Whatever does not
//! fit is named.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{config, numbers, ragged, settings, shards};
use demask_api::{BackboneConfig, LoadOptions, Purpose, published};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::network::attention_mask::AttentionMask;
use demask_model::network::slots::slots;
use demask_model::weights::safetensors;
use demask_model::weights::stored::StoredTensors;
use demask_model::{Backbone, training};
use tch::{Device, Kind, Tensor};

type Tensors = BTreeMap<String, Tensor>;

fn named(backbone: &Backbone) -> Vec<(String, Vec<f64>)> {
    let named = backbone.parameters().named().unwrap();
    named
        .into_iter()
        .map(|(name, tensor)| (name, numbers(&tensor)))
        .collect()
}

fn single(dir: &Path, config: &BackboneConfig, tensors: &Tensors) {
    std::fs::write(dir.join("config.json"), serde_json::to_string(config).unwrap()).unwrap();
    safetensors::write(&dir.join("model.safetensors"), tensors, None).unwrap();
}

fn load(dir: &Path) -> Result<Backbone, String> {
    Backbone::load(dir, Device::Cpu, Kind::Float).map_err(|error| error.to_string())
}

fn refusal(dir: &Path) -> String {
    load(dir).map(|_| ()).unwrap_err()
}

fn logits(backbone: &Backbone) -> Vec<f64> {
    let ids = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]);
    tch::no_grad(|| {
        let hidden = backbone.hidden(&ids, &AttentionMask::None).unwrap();
        numbers(&backbone.head(&hidden, None).unwrap())
    })
}

/// The 8B shapes have the tensor names, shapes and parameter counts of the published indexes (`mmada.md` 1.1
/// and 1.2).
#[test]
fn the_published_shapes_have_the_published_parameters() {
    for (config, count) in [
        (r#"{"model_type": "llada"}"#, 8_015_581_184i64),
        (r#"{"model_type": "mmada"}"#, 8_082_690_048),
    ] {
        let config = published::read(config).unwrap();
        let slots = slots(&config);
        let numbers: i64 = slots.iter().map(|slot| slot.shape.iter().product::<i64>()).sum();
        assert_eq!(numbers, count);
        assert_eq!(slots.len(), 3 + 32 * 9);
        let rows = config.rows() as i64;
        for (name, shape) in [
            ("wte.weight", vec![rows, 4096]),
            ("ln_f.weight", vec![4096]),
            ("ff_out.weight", vec![rows, 4096]),
            ("blocks.0.attn_norm.weight", vec![4096]),
            ("blocks.31.q_proj.weight", vec![4096, 4096]),
            ("blocks.31.ff_proj.weight", vec![12_288, 4096]),
            ("blocks.31.ff_out.weight", vec![4096, 12_288]),
        ] {
            let name = format!("model.transformer.{name}");
            assert!(
                slots.iter().any(|slot| slot.name == name && slot.shape == shape),
                "{name}"
            );
        }
    }
}

#[test]
fn random_weights_sample_and_are_not_trained() {
    let backbone = Backbone::random(&config(), 1, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(backbone.parameters().purpose(), Purpose::Sample);
    let same = Backbone::random(&config(), 1, Device::Cpu, Kind::Float).unwrap();
    let other = Backbone::random(&config(), 2, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(logits(&backbone), logits(&same));
    assert_ne!(logits(&backbone), logits(&other));
}

#[test]
fn several_files_are_one_network() {
    let source = crate::common::backbone(3);
    let tensors = source.parameters().named().unwrap();
    for count in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        shards::write(dir.path(), &config(), &tensors, count);
        assert_eq!(named(&load(dir.path()).unwrap()), named(&source), "{count} files");
    }
}

/// A weights index that disagrees with its files is reported with the tensor or file at fault, and no file
/// outside the folder is opened.
#[test]
fn a_broken_index_is_named() {
    let tensors = crate::common::backbone(3).parameters().named().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    shards::write(folder, &config(), &tensors, 3);
    let index = folder.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let second = shards::name(1, 3);
    let says = |words: &[&str]| {
        let message = refusal(folder);
        for word in words {
            assert!(message.contains(word), "{message} lacks {word}");
        }
    };
    // The index names the wrong file for a tensor.
    let table = "model.transformer.wte.weight";
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let place = value["weight_map"][table].as_str().unwrap().to_owned();
    let other = (0..3)
        .map(|n| shards::name(n, 3))
        .find(|name| *name != place)
        .unwrap();
    value["weight_map"][table] = other.clone().into();
    std::fs::write(&index, value.to_string()).unwrap();
    says(&[
        "index.json: it lists tensor",
        table,
        &other,
        "does not contain it",
    ]);
    // The index names a file outside the folder.
    value["weight_map"][table] = "../model.safetensors".into();
    std::fs::write(&index, value.to_string()).unwrap();
    says(&["\"../model.safetensors\", expected a plain name"]);
    std::fs::write(&index, "{}").unwrap();
    says(&["not an index of weights", "weight_map"]);
    // A file is missing, then truncated.
    std::fs::write(&index, &text).unwrap();
    let whole = std::fs::read(folder.join(&second)).unwrap();
    std::fs::remove_file(folder.join(&second)).unwrap();
    let count = tensors.len().div_ceil(3);
    says(&[&second, "missing", &format!("lists {count} tensors")]);
    std::fs::write(folder.join(&second), &whole[..whole.len() - 1]).unwrap();
    says(&[&second, "not a complete safetensors file"]);
}

#[test]
fn a_folder_without_weights_says_what_it_expected() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("config.json"),
        serde_json::to_string(&config()).unwrap(),
    )
    .unwrap();
    assert!(refusal(dir.path()).contains("expected model.safetensors or model.safetensors.index.json"));
    std::fs::write(dir.path().join("pytorch_model.bin"), "pickle").unwrap();
    assert!(refusal(dir.path()).contains("only pytorch_model.bin, a PyTorch pickle"));
}

/// One message lists all five faults: two missing tensors, one of a wrong shape, one of a wrong dtype, and
/// one unexpected tensor.
#[test]
fn all_that_does_not_fit_is_named() {
    let mut tensors = crate::common::backbone(3).parameters().named().unwrap();
    let name = |what: &str| format!("model.transformer.{what}.weight");
    assert!(tensors.remove(&name("ln_f")).is_some());
    assert!(tensors.remove(&name("blocks.1.q_proj")).is_some());
    let whole = tensors[&name("blocks.0.ff_out")].shallow_clone();
    tensors.insert(name("blocks.0.ff_out"), whole.transpose(0, 1).contiguous());
    let norm = tensors[&name("blocks.0.attn_norm")].to_kind(Kind::Int64);
    tensors.insert(name("blocks.0.attn_norm"), norm);
    tensors.insert("lm_head.weight".into(), whole);
    let dir = tempfile::tempdir().unwrap();
    single(dir.path(), &config(), &tensors);
    let message = refusal(dir.path());
    for words in [
        "model.safetensors: 5 tensors do not fit",
        "ln_f.weight is missing, expected shape [16]",
        "blocks.1.q_proj.weight is missing, expected shape [16, 16]",
        "blocks.0.ff_out.weight has shape [24, 16], expected [16, 24]",
        "blocks.0.attn_norm.weight has dtype Int64, expected a floating one",
        "lm_head.weight is not part of the network",
    ] {
        assert!(message.contains(words), "{message} lacks {words}");
    }
}

#[test]
fn of_many_complaints_ten_are_spelt_out() {
    let mut tensors = crate::common::backbone(3).parameters().named().unwrap();
    tensors.retain(|name, _| !name.contains(".blocks."));
    let dir = tempfile::tempdir().unwrap();
    single(dir.path(), &config(), &tensors);
    let message = refusal(dir.path());
    assert!(message.contains("18 tensors do not fit"), "{message}");
    assert_eq!(message.matches("is missing").count(), 10, "{message}");
    assert!(message.ends_with("; and 8 more"), "{message}");
}

#[test]
fn what_is_not_computed_is_refused_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"d_model": 16, "n_heads": 2, "alibi": true}"#;
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    let message = refusal(dir.path());
    assert!(
        message.contains("config.json: alibi is true, expected false"),
        "{message}"
    );
}

/// A tied head may be stored under either name or both. If both are stored, the embedding is used.
#[test]
fn a_tied_head_may_lie_under_either_name() {
    let config = BackboneConfig {
        weight_tying: true,
        ..config()
    };
    let source = Backbone::fresh(&config, 5, Device::Cpu, Kind::Float).unwrap();
    let mut tensors = source.parameters().named().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (table, head) = ("model.transformer.wte.weight", "model.transformer.ff_out.weight");
    tensors.insert(head.into(), tensors[table].shallow_clone() + 1.0);
    single(dir.path(), &config, &tensors);
    assert_eq!(named(&load(dir.path()).unwrap()), named(&source));
    let value = tensors.remove(table).unwrap();
    tensors.insert(head.into(), value);
    single(dir.path(), &config, &tensors);
    assert_eq!(named(&load(dir.path()).unwrap()), named(&source));
    assert!(tensors.remove(head).is_some());
    single(dir.path(), &config, &tensors);
    assert!(refusal(dir.path()).contains("wte.weight is missing"));
}

/// The image codes begin at the length of the tokenizer that is stored beside the weights.
#[test]
fn the_tokenizer_says_where_picture_codes_begin() {
    let source = crate::common::backbone(3);
    let dir = tempfile::tempdir().unwrap();
    single(dir.path(), &config(), &source.parameters().named().unwrap());
    assert_eq!(load(dir.path()).unwrap().config().image_offset(), 12);
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{"id": 9, "content": "<|mask|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "WordLevel", "unk_token": "a",
            "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6, "h": 7, "i": 8}},
    });
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    assert_eq!(load(dir.path()).unwrap().config().image_offset(), 10);
}

#[test]
fn l7_weights_for_sampling_compute_the_same_bits() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let dir = tempfile::tempdir().unwrap();
        let tensors = crate::common::backbone(3).parameters().named().unwrap();
        single(dir.path(), &config(), &tensors);
        let training = Backbone::load(dir.path(), Device::Cpu, kind).unwrap();
        let sampling = Backbone::load_for(dir.path(), Device::Cpu, kind, Purpose::Sample).unwrap();
        assert_eq!(logits(&sampling), logits(&training), "{kind:?}");
        assert_eq!(sampling.parameters().count(), training.parameters().count());
        for copy in [sampling.frozen_copy().unwrap(), sampling.twin().unwrap()] {
            assert_eq!(logits(&copy), logits(&training), "{kind:?}");
        }
        let reference = training.frozen_copy().unwrap();
        assert_eq!(logits(&reference), logits(&training), "{kind:?}");
    }
}

/// Saves a model that was trained with a moving average.
fn trained(dir: &Path) -> LoadedModel {
    let (backbone, optimizer) = crate::common::learner(3);
    let mut model = LoadedModel {
        backbone,
        optimizer,
        tokenizer: None,
    };
    for seed in 0..2 {
        let settings = demask_api::StepSettings {
            ema: 0.5,
            ..settings(seed)
        };
        training::train(&mut model.backbone, &mut model.optimizer, &[ragged()], &settings).unwrap();
    }
    model.save(dir, &BTreeMap::new(), true).unwrap();
    model
}

/// A model that was loaded for sampling refuses to resume, to train and to save an optimizer, and saves its
/// weights unchanged.
#[test]
fn weights_for_sampling_are_not_trained() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("checkpoint");
    trained(&dir);
    let options = LoadOptions::sampling();
    let open = |resume| LoadedModel::load_with(&dir, resume, &options, Device::Cpu, Kind::Float);
    let message = open(true).unwrap_err().to_string();
    assert!(message.contains("resume needs the purpose train"), "{message}");
    let mut model = open(false).unwrap();
    let before = named(&model.backbone);
    let message = training::train(
        &mut model.backbone,
        &mut model.optimizer,
        &[ragged()],
        &settings(1),
    )
    .unwrap_err()
    .to_string();
    assert!(message.contains("loaded for sampling"), "{message}");
    let other = place.path().join("other");
    let message = model
        .save(&other, &BTreeMap::new(), true)
        .unwrap_err()
        .to_string();
    assert!(message.contains("loaded for sampling"), "{message}");
    assert!(!other.exists());
    model.save(&other, &BTreeMap::new(), false).unwrap();
    assert_eq!(named(&load(&other).unwrap()), before);
}

#[test]
fn the_moving_average_may_be_sampled_from() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("checkpoint");
    trained(&dir);
    let training = LoadedModel::load(&dir, false, Device::Cpu, Kind::Float).unwrap();
    training.take_average(&dir, false).unwrap();
    let sampling =
        LoadedModel::load_with(&dir, false, &LoadOptions::sampling(), Device::Cpu, Kind::Float).unwrap();
    assert_ne!(named(&sampling.backbone), named(&training.backbone));
    sampling.take_average(&dir, false).unwrap();
    assert_eq!(named(&sampling.backbone), named(&training.backbone));
    assert_eq!(logits(&sampling.backbone), logits(&training.backbone));
}

/// Ranges are read within a tensor only, whatever their numbers are.
#[test]
fn l9_a_range_that_leaves_its_tensor_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let eight = Tensor::arange(8, (Kind::Float, Device::Cpu));
    let tensors = Tensors::from([("a".to_owned(), eight.shallow_clone())]);
    safetensors::write(&path, &tensors, None).unwrap();
    let stored = StoredTensors::in_file(&path).unwrap();
    let read = |range: (i64, i64)| stored.read_ranges("a", [range].into_iter());
    assert!(read((2, 3)).unwrap().equal(&eight.narrow(0, 2, 3)));
    // The end of the last range, in bytes, does not fit into 64 bits.
    for range in [(6, 3), (-1, 2), (2, -1), ((1 << 62) - 1, 2)] {
        let error = read(range).unwrap_err().to_string();
        assert!(error.contains("a has 32 bytes"), "{error}");
    }
}

/// What is written in many pieces, with flushes between them, is read back whole.
#[test]
fn tensors_longer_than_a_piece_and_a_flush_are_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let long = Tensor::arange((9_i64 << 20) + 5, (Kind::Float, Device::Cpu));
    let tensors = Tensors::from([
        ("long".to_owned(), long.shallow_clone()),
        ("one".to_owned(), Tensor::from_slice(&[7.0_f32])),
        ("turned".to_owned(), long.narrow(0, 0, 5 << 20).view([5, -1]).tr()),
    ]);
    safetensors::write(&path, &tensors, None).unwrap();
    let found = safetensors::read(&path).unwrap();
    assert_eq!(found.len(), tensors.len());
    for (name, expected) in &tensors {
        assert_eq!(found[name].size(), expected.size(), "{name}");
        assert!(found[name].equal(expected), "{name}");
    }
}
