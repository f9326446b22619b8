//! Out-of-memory handling: a step that runs out of memory is repeated in smaller passes with the same sums.
//! The predicted memory of a forward pass matches what is measured.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::{config, group, ragged, sequence, settings};
use demask_api::activations::{Activations, Trained};
use demask_api::{
    BackboneConfig, EstimatorConfig, LoraConfig, ObjectiveConfig, Purpose, Sequence, Spacing, UniGrpo,
};
use demask_model::network::lora::Lora;
use demask_model::training::loss::{LossRow, gather};
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind};

fn learner(kind: Kind) -> (Backbone, AdamW) {
    let backbone = Backbone::fresh(&config(), 3, Device::Cpu, kind).unwrap();
    let optimizer = AdamW::new(backbone.parameters()).unwrap();
    (backbone, optimizer)
}

fn rows() -> Vec<Sequence> {
    (0..9).map(|seed| sequence(seed, 16, 0)).collect()
}

/// Asserts equality within f32 rounding, the precision in which losses are summed.
fn close(one: f64, other: f64) {
    assert!(
        (one - other).abs() <= 1e-6 * one.abs().max(1.0),
        "{one} and {other}"
    );
}

#[test]
fn a_step_without_memory_is_done_again_in_halves() {
    tch::set_num_threads(1);
    let (mut calm, mut its_optimizer) = learner(Kind::Double);
    let (mut squeezed, mut optimizer) = learner(Kind::Double);
    // The first micro-batch fits. The second one runs out of memory after the first one's gradient has been
    // accumulated.
    let batches = [ragged(), rows()];
    squeezed.room().pretend(70);
    for seed in 0..3 {
        let expected = training::train(&mut calm, &mut its_optimizer, &batches, &settings(seed)).unwrap();
        let found = training::train(&mut squeezed, &mut optimizer, &batches, &settings(seed)).unwrap();
        close(expected.loss, found.loss);
        close(expected.grad_norm, found.grad_norm);
        assert_eq!((found.step, found.masked), (expected.step, expected.masked));
    }
    // Nine rows of 16 tokens were one pass, and become passes of four, four and one rows.
    assert_eq!(squeezed.room().forward_tokens(), 72);
    let away = (calm.parameters().master() - squeezed.parameters().master())
        .abs()
        .max();
    assert!(away.double_value(&[]) < 1e-6, "{away:?}");
}

/// A policy step that runs out of memory is repeated in smaller passes with the same losses and gradient
/// norm.
#[test]
fn a_policy_step_without_memory_is_done_again_in_halves() {
    tch::set_num_threads(1);
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 2,
        ..ObjectiveConfig::default()
    };
    let learnt = |room: Option<usize>| {
        let (mut backbone, mut optimizer) = learner(Kind::Double);
        if let Some(most) = room {
            backbone.room().pretend(most);
        }
        let groups = [group(&[1.0, -0.5, 0.5, 0.3, -1.0])];
        let report = policy::train(
            &mut backbone,
            &mut optimizer,
            None,
            &groups,
            &estimator,
            &objective,
            &settings(9),
        );
        (report.unwrap(), backbone)
    };
    let ((expected, _), (found, squeezed)) = (learnt(None), learnt(Some(30)));
    assert!(squeezed.room().forward_tokens() <= 30);
    for (one, other) in expected.losses.iter().zip(&found.losses) {
        close(*one, *other);
    }
    close(expected.grad_norm[1], found.grad_norm[1]);
}

#[test]
fn where_a_single_row_finds_no_memory_the_step_says_so_and_leaves_all_as_it_was() {
    let (mut backbone, mut optimizer) = learner(Kind::Double);
    backbone.room().pretend(20);
    let before = common::state(backbone.parameters(), &optimizer);
    let error = training::train(&mut backbone, &mut optimizer, &[ragged()], &settings(1)).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    assert_eq!(before, common::state(backbone.parameters(), &optimizer));
}

/// Returns a configuration in which activations are most of a forward pass's memory.
fn wide(kv_heads: usize) -> BackboneConfig {
    BackboneConfig {
        d_model: 128,
        n_heads: 4,
        n_kv_heads: Some(kv_heads),
        n_layers: 6,
        mlp_hidden_size: Some(384),
        max_sequence_length: 512,
        ..config()
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Returns the bytes that a forward pass over `rows` rows of up to 256 tokens, by libtorch's operators, keeps
/// for the backward pass.
fn kept(backbone: &Backbone, rows: u32) -> u64 {
    let row = |seed: u32| LossRow {
        ids: (0..256 - seed % 2).map(|at| (at + seed) % 10).collect(),
        left_pad: 0,
        targets: vec![(3, 1, 1.0)],
    };
    let rows: Vec<LossRow> = (0..rows).map(row).collect();
    let before = resident();
    let gathered = gather(backbone, &rows).unwrap();
    let after = resident();
    drop(gathered);
    after - before
}

const CASE: &str = "DEMASK_TEST_KEPT_CASE";

/// The memory limits of the 8B shape come from this formula. The test compares the formula with measurements
/// of small shapes. Each measurement is the difference between a large and a small batch, each in a process
/// of its own.
#[test]
#[cfg(target_os = "linux")]
fn what_a_forward_pass_keeps_is_what_arithmetic_says() {
    if let Ok(case) = std::env::var(CASE) {
        let (kv_heads, rest) = case.split_once(' ').unwrap();
        let (trained, rows) = rest.split_once(' ').unwrap();
        let config = wide(kv_heads.parse().unwrap());
        let mut backbone = Backbone::fresh(&config, 3, Device::Cpu, Kind::Double).unwrap();
        if trained == "adapter" {
            let place = (Device::Cpu, Kind::Double);
            backbone = Backbone::random(&config, 3, place.0, place.1).unwrap();
            let lora = LoraConfig::default();
            let lora = Lora::fresh(&lora, &config, Path::new("base"), place, Purpose::Train).unwrap();
            backbone = backbone.adapted(lora);
        }
        tch::set_num_threads(1);
        return println!("kept {}", kept(&backbone, rows.parse().unwrap()));
    }
    let measured = |case: String| -> u64 {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "what_a_forward_pass_keeps_is_what_arithmetic_says",
                "--nocapture",
            ])
            .env(CASE, case)
            // Makes the allocator return freed memory to the system, so that it is not counted.
            .env("MALLOC_MMAP_THRESHOLD_", "65536")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        let line = said.lines().find_map(|line| Some(line.split_once("kept ")?.1));
        let line = line.unwrap_or_else(|| panic!("{said}\n{}", String::from_utf8_lossy(&child.stderr)));
        line.trim().parse().unwrap()
    };
    for (kv_heads, name, trained) in [
        (4, "whole", Trained::Whole),
        (1, "whole", Trained::Whole),
        (4, "adapter", Trained::Adapter),
    ] {
        let [few, many] = [2, 10].map(|rows| measured(format!("{kv_heads} {name} {rows}")));
        let config = wide(kv_heads);
        // The formula counts one more layer for the gradients of the last block's backward pass; this test
        // runs no backward pass.
        let layers = config.n_layers as u64;
        let activations = Activations {
            config: &config,
            number: 8,
            trained,
            recomputed: false,
            kernels: false,
        };
        let expected = 8 * 255 * activations.token_bytes() * layers / (layers + 1);
        let ratio = (many - few) as f64 / expected as f64;
        println!(
            "{kv_heads} key heads, {name}: {} bytes, {ratio:.3} of what was worked out",
            many - few
        );
        assert!((0.8..1.15).contains(&ratio), "{kv_heads} {name}: {ratio}");
    }
}
