//! Fuzz tests of everything that the engine parses (law L9): safetensors headers, configurations, adapters,
//! indexes and manifests.
//!
//! How inputs are made, and the variables that ask for more of them, are in `tests/src/fuzz.rs`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/src/dice.rs"]
mod dice;
#[path = "../../tests/src/fuzz.rs"]
mod fuzz;

use std::path::{Path, PathBuf};

use demask_model::engine::checkpoint::check_manifest;
use demask_model::image_tokenizer::ImageTokenizer;
use demask_model::network::folder_config::read_config;
use demask_model::reward_networks::{Clip, ImageRewardNetwork};
use demask_model::weights::peft;
use demask_model::weights::stored::StoredTensors;
use fuzz::{Door, room};
use tch::Device;

#[global_allocator]
static MEMORY: fuzz::CountingAllocator = fuzz::CountingAllocator;

const WORDS: [&[u8]; 8] = [
    b"{",
    b"[",
    b"null",
    b"-",
    b"1e308",
    b"\"/dev/zero\"",
    b"\"../../../etc/passwd\"",
    b"\"r\": 4294967295",
];

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn shipped(file: &str) -> Vec<u8> {
    std::fs::read(house().join("shipped/tabletop").join(file)).unwrap()
}

/// Returns a safetensors file of two small tensors.
fn small() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b.c":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[1; 22]].concat()
}

/// Hostile safetensors headers: shapes and offsets that overflow, overlap or exceed the file. Every tensor
/// of an accepted file is read too.
#[test]
fn safetensors() {
    let room = room();
    let path = room.path().join("model.safetensors");
    Door {
        name: "safetensors",
        inputs: 10_000,
        seeds: vec![small()],
        words: &[
            b"{",
            b"\"shape\":[9223372036854775807,2]",
            b"\"data_offsets\":[0,18446744073709551615]",
            b"\"dtype\":\"I64\"",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\"x\":{\"dtype\":\"F32\",\"shape\":[0,4611686018427387904],\"data_offsets\":[0,0]},",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        if let Ok(stored) = StoredTensors::in_file(&path) {
            let names: Vec<String> = stored.names().map(str::to_owned).collect();
            for name in names {
                stored.read(&name).ok();
            }
        }
    });
}

#[test]
fn indexes() {
    let room = room();
    std::fs::write(room.path().join("a.safetensors"), small()).unwrap();
    let index =
        br#"{"metadata": {"total_size": 22}, "weight_map": {"a": "a.safetensors", "b.c": "a.safetensors"}}"#;
    Door {
        name: "index",
        inputs: 10_000,
        seeds: vec![index.to_vec()],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(room.path().join("model.safetensors.index.json"), bytes).unwrap();
        StoredTensors::in_folder(room.path()).ok();
    });
}

#[test]
fn configurations_and_manifests() {
    let room = room();
    let at = |file: &str| room.path().join(file);
    std::fs::write(at("tokenizer.json"), shipped("tokenizer.json")).unwrap();
    Door {
        name: "folder",
        inputs: 10_000,
        seeds: vec![
            shipped("config.json"),
            shipped("manifest.json"),
            shipped("image_tokenizer/config.json"),
        ],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(at("config.json"), bytes).unwrap();
        read_config(room.path()).ok();
        ImageTokenizer::load(room.path(), Device::Cpu).ok();
        std::fs::write(at("manifest.json"), bytes).unwrap();
        check_manifest(room.path()).ok();
    });
}

#[test]
fn adapters() {
    let room = room();
    let adapter = br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "bias": "none", "target_modules": ["q_proj"],
        "base_model_name_or_path": "../base", "use_rslora": true, "rank_pattern": {}}"#;
    let base = br#"{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": true}"#;
    Door {
        name: "adapter",
        inputs: 10_000,
        seeds: vec![adapter.to_vec(), base.to_vec()],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(room.path().join("adapter_config.json"), bytes).unwrap();
        std::fs::write(room.path().join("quantization_config.json"), bytes).unwrap();
        peft::read(room.path()).ok();
        peft::base(room.path()).ok();
        peft::frozen_base(room.path()).ok();
    });
}

/// Hostile configurations of the reward networks, beside valid weights.
#[test]
fn reward_networks() {
    for name in ["clip", "image-reward"] {
        let from = house().join("tests/fixtures").join(name);
        let room = room();
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), room.path().join(entry.file_name())).unwrap();
            }
        }
        let Ok(config) = std::fs::read(from.join("config.json")) else {
            continue;
        };
        Door {
            name: if name == "clip" { "clip" } else { "image-reward" },
            inputs: 10_000,
            seeds: vec![config],
            words: &WORDS,
            spare: 0,
        }
        .tried(|bytes| {
            std::fs::write(room.path().join("config.json"), bytes).unwrap();
            if name == "clip" {
                Clip::load(room.path(), Device::Cpu).ok();
            } else {
                ImageRewardNetwork::load(room.path(), Device::Cpu).ok();
            }
        });
    }
}
