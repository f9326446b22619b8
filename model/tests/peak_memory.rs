//! Peak host memory of loading (the weights plus one tensor) and of a training step with activation
//! recomputation. Each case runs in a process of its own, so that memory freed by another case is not reused
//! unseen.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{sequence, settings, shards};
use demask_api::plan::{LOGITS_AT_ONCE, TrainingPlan};
use demask_api::{
    Adam, BackboneConfig, BaseDtype, LoadOptions, LoraConfig, MomentKind, Purpose, Recompute, Sequence,
    StepSettings,
};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::network::slots;
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};
use tch::{Device, Kind, Tensor};

const MIB: u64 = 1 << 20;
/// Allowance for the allocator and the model's own tables, in bytes.
const SLACK: u64 = 12 * MIB;

/// Returns a configuration of 64 MiB of bf16 weights, in which no tensor is larger than 8 MiB.
fn config() -> BackboneConfig {
    BackboneConfig {
        d_model: 256,
        n_heads: 4,
        n_layers: 24,
        mlp_hidden_size: Some(1024),
        max_sequence_length: 64,
        vocab_size: 16_384,
        mask_token_id: 1,
        eos_token_id: 2,
        pad_token_id: 2,
        codebook_size: 0,
        ..BackboneConfig::default()
    }
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The cases: dtype, purpose, and the expected bytes per parameter.
const CASES: [(Kind, Purpose, u64); 4] = [
    (Kind::BFloat16, Purpose::Sample, 2),
    (Kind::Float, Purpose::Sample, 4),
    (Kind::Float, Purpose::Train, 4),
    (Kind::BFloat16, Purpose::Train, 6),
];
/// Environment variable that tells a child process its folder and the number of its case.
const CASE: &str = "DEMASK_TEST_PEAK_CASE";

/// Loads one case and prints by how many bytes the process's peak memory exceeds its memory before.
fn load(case: &str) {
    let (number, dir) = case.split_once(' ').unwrap();
    let (kind, purpose, _) = CASES[number.parse::<usize>().unwrap()];
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        return println!("risen none");
    }
    let before = status("VmRSS:");
    let loaded = Backbone::load_for(Path::new(dir), Device::Cpu, kind, purpose).unwrap();
    let highest = status("VmHWM:");
    drop(loaded);
    println!("risen {}", highest - before);
}

/// Runs a case of `test` in a fresh process and returns the growth in bytes that it prints, or `None` where
/// the peak cannot be reset. A process with a history could reuse freed memory, which would hide growth.
fn risen(test: &str, case: &str) -> Option<u64> {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CASE, case)
        // In the child alone, glibc maps every block of 64 KiB or more, and unmaps it when it is freed. Without the
        // variable the threshold grows with the blocks that are freed, and kept memory would count as memory in use.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    let line = said.lines().find_map(|line| Some(line.split_once("risen ")?.1));
    let line = line.unwrap_or_else(|| panic!("{said}\n{}", String::from_utf8_lossy(&child.stderr)));
    line.trim().parse().ok()
}

/// Loading raises peak memory by the weights in their final form plus one tensor. A peak below the weights'
/// size means that nothing was measured.
#[test]
fn loading_takes_the_weights_and_one_tensor() {
    if let Ok(case) = std::env::var(CASE) {
        return load(&case);
    }
    let dir = tempfile::tempdir().unwrap();
    let slots = slots::slots(&config());
    let tensors = slots.iter().map(|slot| {
        let ones = Tensor::ones(&slot.shape[..], (Kind::BFloat16, Device::Cpu));
        (slot.name.clone(), ones)
    });
    shards::write(dir.path(), &config(), &tensors.collect(), 4);
    let numbers: i64 = slots.iter().map(|slot| slot.shape.iter().product::<i64>()).sum();
    let largest = 16_384 * 256 * 2;
    for (number, (kind, purpose, width)) in CASES.into_iter().enumerate() {
        let case = format!("{number} {}", dir.path().display());
        let Some(risen) = risen("loading_takes_the_weights_and_one_tensor", &case) else {
            println!("skipped: the highest mark of memory cannot be reset here");
            return;
        };
        let weights = numbers as u64 * width;
        let allowed = weights + largest + SLACK;
        let found = format!(
            "{kind:?} {purpose:?}: {} MiB, allowed {}",
            risen / MIB,
            allowed / MIB
        );
        println!("{found}");
        assert!(risen >= weights * 9 / 10, "nothing was measured: {found}");
        assert!(risen <= allowed, "{found}");
    }
}

/// Returns the shape of the shipped tabletop model, eight times as deep, with a smaller vocabulary.
fn deep() -> BackboneConfig {
    BackboneConfig {
        d_model: 192,
        n_heads: 4,
        n_layers: 40,
        mlp_hidden_size: Some(512),
        max_sequence_length: 160,
        vocab_size: 1024,
        mask_token_id: 10,
        eos_token_id: 11,
        pad_token_id: 11,
        codebook_size: 0,
        ..BackboneConfig::default()
    }
}

/// Rows of a training step, and tokens per row.
const ROWS: (u32, usize) = (24, 96);

/// The training cases: activation recomputation, and the precision of the optimizer's moments.
const TRAINING: [(Recompute, MomentKind); 3] = [
    (Recompute::Never, MomentKind::F32),
    (Recompute::Always, MomentKind::F32),
    (Recompute::Always, MomentKind::Bf16),
];

/// Resets the peak and returns the resident memory before a model exists, in bytes. Returns `None` where the
/// system does not allow the reset. One matrix product runs first, so that libtorch's one-time allocations
/// are not counted.
fn settled() -> Option<u64> {
    let ones = || Tensor::ones([8, 8], (Kind::Float, Device::Cpu));
    let _ = ones().matmul(&ones());
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(status("VmRSS:"))
}

/// Trains a fresh model for two steps and prints by how many bytes the peak exceeds the memory before.
fn train(case: &str) {
    let (recompute, moments) = TRAINING[case.parse::<usize>().unwrap()];
    tch::set_num_threads(1);
    let Some(before) = settled() else {
        return println!("risen none");
    };
    let mut backbone = Backbone::fresh(&deep(), 1, Device::Cpu, Kind::Float).unwrap();
    let mut optimizer = AdamW::new(backbone.parameters()).unwrap();
    let rows: Vec<Sequence> = (0..ROWS.0).map(|seed| sequence(seed, ROWS.1, 0)).collect();
    for seed in 0..2 {
        let adam = Adam {
            moments,
            ..Adam::default()
        };
        let settings = StepSettings {
            recompute,
            adam,
            ..settings(seed)
        };
        let batch = std::slice::from_ref(&rows);
        let report = training::train(&mut backbone, &mut optimizer, batch, &settings);
        assert!(report.unwrap().finite);
    }
    println!("risen {}", status("VmHWM:") - before);
}

/// Returns the bytes that `demask plan`'s formula predicts for a case.
fn planned((recompute, moments): (Recompute, MomentKind), lora: Option<&LoraConfig>) -> u64 {
    let tokens = u64::from(ROWS.0) * ROWS.1 as u64;
    let plan = TrainingPlan {
        config: &deep(),
        number: 4,
        lora,
        muon: false,
        moments,
        offload: false,
        ranks: demask_api::sharding::Ranks::default(),
        average: false,
        recomputed: recompute == Recompute::Always,
        kernels: true,
        threads: 1,
        rows: ROWS.0.into(),
        length: ROWS.1 as u64,
        // On average half of the answer tokens are masked; the loss is computed for those only.
        masked: tokens / 2,
        logits_at_once: LOGITS_AT_ONCE,
        reference: false,
        put_back: false,
        sampled: 0,
        samplers: 0,
        image_tokenizer: None,
    };
    plan.bytes()
}

/// Recomputing activations takes a fraction of the memory, and every case takes what the plan predicts,
/// within 10 %.
#[test]
fn a_step_takes_what_the_plan_says_and_computed_again_a_fraction() {
    if let Ok(case) = std::env::var(CASE) {
        return train(&case);
    }
    let test = "a_step_takes_what_the_plan_says_and_computed_again_a_fraction";
    let mut all = Vec::new();
    for (number, case) in TRAINING.into_iter().enumerate() {
        let Some(risen) = risen(test, &number.to_string()) else {
            println!("skipped: the highest mark of memory cannot be reset here");
            return;
        };
        let ratio = risen as f64 / planned(case, None) as f64;
        println!("{case:?}: {} MiB, {ratio:.3} of what was planned", risen / MIB);
        all.push((risen, ratio));
    }
    assert!(all[1].0 * 10 <= all[0].0 * 4, "{all:?}");
    assert!(all[2].0 < all[1].0, "{all:?}");
    // The plan counts the memory of the fused CPU kernels, which some builds lack.
    if demask_model::device::kernels::fused::applies_to(Device::Cpu, Kind::Float) {
        assert!(all.iter().all(|(_, ratio)| (0.9..1.1).contains(ratio)), "{all:?}");
    }
}

/// Returns the adapter of a case: case 0 keeps the base's dtype, case 1 keeps the base in NF4 with double
/// quantization.
fn over(case: usize) -> LoraConfig {
    LoraConfig {
        base: [BaseDtype::Auto, BaseDtype::Nf4][case],
        double_quantization: case == 1,
        target_modules: vec!["q_proj".to_owned()],
        ..LoraConfig::default()
    }
}

/// Loads a base with an adapter, trains two steps without recomputation, and prints by how many bytes memory
/// grew.
fn adapt(case: &str) {
    let (number, dir) = case.split_once(' ').unwrap();
    tch::set_num_threads(1);
    let Some(before) = settled() else {
        return println!("risen none");
    };
    let options = LoadOptions {
        lora: Some(over(number.parse().unwrap())),
        ..LoadOptions::default()
    };
    let mut model =
        LoadedModel::load_with(Path::new(dir), false, &options, Device::Cpu, Kind::Float).unwrap();
    let rows: Vec<Sequence> = (0..ROWS.0).map(|seed| sequence(seed, ROWS.1, 0)).collect();
    for seed in 0..2 {
        let settings = StepSettings {
            recompute: Recompute::Never,
            ..settings(seed)
        };
        let batch = std::slice::from_ref(&rows);
        let report = training::train(&mut model.backbone, &mut model.optimizer, batch, &settings);
        assert!(report.unwrap().finite);
    }
    println!("risen {}", status("VmHWM:") - before);
}

/// Asserts that a dequantized weight is not kept until the backward pass. If it were, the 4-bit base would
/// need more memory than the unquantized one.
#[test]
fn a_base_in_four_bits_is_never_there_in_full() {
    if let Ok(case) = std::env::var(CASE) {
        return adapt(&case);
    }
    let dir = tempfile::tempdir().unwrap();
    let tensors = slots::slots(&deep()).into_iter().map(|slot| {
        let wave = (Tensor::arange(slot.shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.7)
            .sin()
            * 0.05;
        (slot.name, wave.view(&slot.shape[..]))
    });
    shards::write(dir.path(), &deep(), &tensors.collect(), 4);
    let mut all = Vec::new();
    for case in [0, 1] {
        let argument = format!("{case} {}", dir.path().display());
        let Some(risen) = risen("a_base_in_four_bits_is_never_there_in_full", &argument) else {
            println!("skipped: the highest mark of memory cannot be reset here");
            return;
        };
        let planned = planned((Recompute::Never, MomentKind::F32), Some(&over(case)));
        println!(
            "{:?}: {} MiB, {:.3} of what was planned",
            over(case).base,
            risen / MIB,
            risen as f64 / planned as f64
        );
        all.push((risen, planned));
    }
    let saved = all[0].1 - all[1].1;
    assert!(saved > 50 * MIB, "{all:?}");
    // The plan counts the memory of the fused CPU kernels, which some builds lack.
    if demask_model::device::kernels::fused::applies_to(Device::Cpu, Kind::Float) {
        assert!(all[1].0 + saved * 8 / 10 < all[0].0, "{all:?}");
    }
}
