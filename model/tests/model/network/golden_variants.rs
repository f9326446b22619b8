//! Networks of the published families that are unlike the published ones, against an eager PyTorch loop of the same maths.
//!
//! `fixtures/backbone-everything` has all at once: one key head for two query heads of a width that is twice an odd
//! number, norms on q and k, biases everywhere, a tied head, scaled logits and embeddings, another rotary base and
//! epsilon, more rows than tokens, weights in bf16. `fixtures/image-tokenizer-wide` reads pictures that are wider than
//! high, with two halves that differ in width and depth, few norm groups and codes of five bits.
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

/// Logits, padded logits, three ways of generating, three losses and every parameter's gradient.
#[test]
fn a_backbone_of_every_option_is_reproduced() {
    check("backbone-everything", 8 + 47);
}

#[test]
fn an_image_tokenizer_of_another_shape_is_reproduced() {
    check("image-tokenizer-wide", 3);
}
