//! What loading takes of the host's memory: the weights and the one tensor at hand. Alone in its file, so that nothing
//! else runs in its process.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::shards;
use demask_api::{BackboneConfig, Purpose};
use demask_model::{Backbone, backbone};
use tch::{Device, Kind, Tensor};

const MIB: u64 = 1 << 20;
/// What the allocator and the tables of a model may take beside.
const SLACK: u64 = 12 * MIB;

/// 64 MiB in bf16; no tensor has more than 8.
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

/// How far the process's memory rose above what it was, at its highest, while a folder was loaded.
fn risen(dir: &Path, kind: Kind, purpose: Purpose) -> Option<u64> {
    // SAFETY: gives freed memory back to the system, so that what loads cannot hide in it.
    unsafe { libc::malloc_trim(0) };
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = status("VmRSS:");
    let loaded = Backbone::load_for(dir, Device::Cpu, kind, purpose).unwrap();
    let highest = status("VmHWM:");
    drop(loaded);
    Some(highest - before)
}

#[test]
fn loading_takes_the_weights_and_one_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let slots = backbone::slots(&config());
    let tensors = slots.iter().map(|slot| {
        let ones = Tensor::ones(&slot.shape[..], (Kind::BFloat16, Device::Cpu));
        (slot.name.clone(), ones)
    });
    let tensors = tensors.collect();
    shards::write(dir.path(), &config(), &tensors, 4);
    let weights: u64 = slots
        .iter()
        .map(|slot| slot.shape.iter().product::<i64>() as u64)
        .sum();
    let largest = (16_384 * 256) * 2;
    drop(tensors);
    for (kind, purpose, width) in [
        (Kind::BFloat16, Purpose::Sample, 2),
        (Kind::Float, Purpose::Sample, 4),
        (Kind::Float, Purpose::Train, 4),
        (Kind::BFloat16, Purpose::Train, 6),
    ] {
        let Some(risen) = risen(dir.path(), kind, purpose) else {
            println!("skipped: the highest mark of memory cannot be reset here");
            return;
        };
        let allowed = weights * width + largest + SLACK;
        println!(
            "{kind:?} {purpose:?}: {} MiB, allowed {}",
            risen / MIB,
            allowed / MIB
        );
        // What was freed before may be taken again without a rise.
        assert!(risen >= weights * width / 2, "nothing was measured: {risen}");
        assert!(
            risen <= allowed,
            "{kind:?} {purpose:?}: {} MiB, allowed {}",
            risen / MIB,
            allowed / MIB
        );
    }
}
