//! Networks of the published families with unusual configurations, against an eager PyTorch loop of the same
//! mathematics.
//!
//! `fixtures/backbone-everything` combines the options: one key/value head for two query heads whose
//! dimension is twice an odd number, norms on queries and keys, biases everywhere, a tied head, scaled logits
//! and embeddings, another rotary base and epsilon, more embedding rows than tokens, and bf16 weights.
//! `fixtures/image-tokenizer-wide` reads images that are wider than high. Its encoder and decoder differ in
//! width and depth, and it has few norm groups and codes of five bits.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_model::engine::verify::verify;
use tch::Device;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn check(name: &str, expected: usize) {
    let dir = fixture(name);
    let checks = verify(&dir, &dir.join("reference.safetensors"), Device::Cpu).unwrap();
    assert_eq!(checks.len(), expected, "tensors compared");
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
    assert!(failed.is_empty(), "{name}: {failed:#?}");
}

/// Logits, padded logits, three ways of generating, three losses and the gradient of every parameter match
/// the recording.
#[test]
fn a_backbone_of_every_option_is_reproduced() {
    check("backbone-everything", 8 + 47);
}

#[test]
fn an_image_tokenizer_of_another_shape_is_reproduced() {
    check("image-tokenizer-wide", 3);
}
