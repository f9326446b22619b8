//! The backbone, its text sampler, losses and gradients against recordings of the published code.
//!
//! `fixtures/backbone-gqa` is a network with random weights and what the published implementation computed with it
//! (one row each of its plain and padded logits). Where the whole set of recordings is at hand (`DEMASK_SHARED`, or
//! `shared` beside the repository) it is checked too.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_model::engine::verify::verify;
use tch::Device;

fn check(dir: &Path, at_least: usize) {
    let checks = verify(dir, &dir.join("reference.safetensors"), Device::Cpu).unwrap();
    assert!(
        checks.len() >= at_least,
        "only {} tensors were compared",
        checks.len()
    );
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
    assert!(failed.is_empty(), "{}: {failed:#?}", dir.display());
}

fn shared() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    std::env::var_os("DEMASK_SHARED").map_or_else(beside, PathBuf::from)
}

#[test]
fn the_fixture_is_reproduced() {
    check(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backbone-gqa"),
        12,
    );
}

#[test]
fn every_recording_is_reproduced() {
    for name in ["backbone", "backbone-gqa"] {
        let dir = shared().join("golden").join(name);
        if dir.exists() {
            check(&dir, 12);
        } else {
            println!("skipped: no {}", dir.display());
        }
    }
}
