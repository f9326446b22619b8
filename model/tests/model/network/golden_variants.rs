//! Networks of the published families with unusual configurations, against an eager PyTorch loop of the same
//! mathematics.
//!
//! `fixtures/backbone-everything` combines the options: one key/value head for two query heads whose
//! dimension is twice an odd number, norms on queries and keys, biases everywhere, a tied head, scaled logits
//! and embeddings, another rotary base and epsilon, more embedding rows than tokens, and bf16 weights.
//! `fixtures/image-tokenizer-wide` reads images that are wider than high. Its encoder and decoder differ in
//! width and depth, and it has few norm groups and codes of five bits.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_model::engine::verify::verify;
use demask_model::weights::safetensors;
use tch::{Device, Kind, Tensor};

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

/// Labels that are not of the size of their input are refused with the shape that they have.
#[test]
fn recorded_labels_of_another_size_are_named_with_their_shape() {
    let dir = fixture("backbone-everything");
    let place = tempfile::tempdir().unwrap();
    let reference = place.path().join("reference.safetensors");
    let recorded = safetensors::read(&dir.join("reference.safetensors")).unwrap();
    let ids = &recorded["loss.input_ids"];
    let length = ids.size()[1];
    for shape in [[6, 0], [5, length]] {
        let labels = Tensor::zeros(shape, (Kind::Int64, Device::Cpu));
        let tensors = [("loss.input_ids", ids.shallow_clone()), ("loss.labels", labels)];
        let tensors: BTreeMap<_, _> = tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        safetensors::write(&reference, &tensors, None).unwrap();
        let error = verify(&dir, &reference, Device::Cpu).unwrap_err().to_string();
        let words = format!("loss.labels is {shape:?}, expected at least 6 rows of {length} tokens");
        assert!(error.contains(&words), "{error}");
    }
}

#[test]
fn an_image_tokenizer_of_another_shape_is_reproduced() {
    check("image-tokenizer-wide", 3);
}
