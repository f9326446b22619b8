//! Configurations: of networks and checkpoints, of samplers and lengths, and profiles.

use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::image_tokenizer::image_tokenizer_shape;
use demask_actors::inference::settings::{SamplerSettings, fit};
use demask_actors::profile::{GSM8K_FASHION, Profile, TABLETOP};
use demask_api::{Manifest, memory, published};
use demask_datasets::prompts::published as published_folder;
use demask_tests::fuzz::{Door, room};

use crate::fixture;

const WORDS: [&[u8]; 8] = [
    b"{",
    b"[",
    b"null",
    b"true",
    b"-",
    b"\"/dev/zero\"",
    b"\"../../../etc/passwd\"",
    b"1e308",
];

/// Hostile network configurations, and the sizes and budgets that are derived from accepted ones.
#[test]
fn networks() {
    let seeds = [
        "model/shipped/tabletop/config.json",
        "model/tests/fixtures/backbone-everything/config.json",
    ]
    .map(fixture);
    let room = room();
    Door {
        name: "config",
        inputs: 10_000,
        seeds: seeds.to_vec(),
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        if let Ok(config) = published::read(&String::from_utf8_lossy(bytes)) {
            let _ = memory::backbone_bytes(&config, 2);
            let _ = config.image_offset();
        }
        std::fs::write(room.path().join("config.json"), bytes).unwrap();
        if published_folder::Facts::read(room.path()).is_ok() {
            demask_actors::inference::published_settings::budgets(room.path(), 1024).ok();
        }
    });
}

#[test]
fn image_tokenizers() {
    let room = room();
    Door {
        name: "image-tokenizer",
        inputs: 10_000,
        seeds: vec![
            fixture("model/shipped/tabletop/image_tokenizer/config.json"),
            b"{}".to_vec(),
        ],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(room.path().join("config.json"), bytes).unwrap();
        if let Ok(config) = image_tokenizer_shape(room.path()) {
            let _ = memory::image_tokenizer_bytes(&config);
            let _ = config.downscale();
        }
    });
}

/// Fuzzes one file of a folder like the shipped checkpoint.
fn checkpoint(name: &'static str, file: &'static str, inputs: u64) {
    let room = room();
    let shipped = |file: &str| fixture(&format!("model/shipped/tabletop/{file}"));
    for file in [
        "config.json",
        "manifest.json",
        "tokenizer.json",
        "budgets.json",
        "sampling.json",
    ] {
        std::fs::write(room.path().join(file), shipped(file)).unwrap();
    }
    Door {
        name,
        inputs,
        seeds: vec![shipped(file)],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(room.path().join(file), bytes).unwrap();
        checkpoint_settings::inference(room.path()).ok();
        checkpoint_settings::samplers(room.path()).ok();
    });
}

#[test]
fn lengths() {
    checkpoint("budgets", "budgets.json", 10_000);
}

#[test]
fn samplers() {
    Door {
        name: "sampling",
        inputs: 10_000,
        seeds: vec![fixture("model/shipped/tabletop/sampling.json")],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        if let Ok(settings) = serde_json::from_slice::<SamplerSettings>(bytes) {
            for length in [0, 1, 36, 512] {
                let _ = fit(&settings.text, length);
            }
        }
    });
}

#[test]
fn manifests() {
    Door {
        name: "manifest",
        inputs: 10_000,
        seeds: vec![fixture("model/shipped/tabletop/manifest.json")],
        words: &WORDS,
        spare: 0,
    }
    .tried(|bytes| {
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
            for file in manifest.files.iter().filter(|file| file.is_inside()) {
                assert!(!file.name.starts_with('/') && !file.name.split('/').any(|part| part == ".."));
            }
        }
    });
}

/// Hostile profiles, and everything that is derived from accepted ones.
#[test]
fn profiles() {
    Door {
        name: "profile",
        inputs: 10_000,
        seeds: vec![TABLETOP.into(), GSM8K_FASHION.into()],
        words: &[
            b"[",
            b"]",
            b"{",
            b"\n[[stage]]\n",
            b"nan",
            b"inf",
            b"= 4294967295\n",
            b"\"\"\"",
            b"d_model = 4294967295\n",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(profile) = Profile::parse(&text, "fuzz") {
            let _ = memory::backbone_bytes(&profile.model, 4);
            profile.configuration(true).ok();
            let _ = profile.total_steps();
            profile.to_commented_toml().ok();
        }
    });
}
