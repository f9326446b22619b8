//! The shipped model in the layout of published ones.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The shipped checkpoint.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop");
/// Demask's special tokens, and LLaDA's for the same roles.
const RENAMED: [(&str, &str); 6] = [
    ("<|soi|>", "<|reserved_token_0|>"),
    ("<|eoi|>", "<|reserved_token_1|>"),
    ("<|t2i|>", "<|reserved_token_4|>"),
    ("<|mmu|>", "<|reserved_token_5|>"),
    ("[iPAD]", "<|reserved_token_9|>"),
    ("<|r2i|>", "<|reserved_token_10|>"),
];

/// Writes the shipped weights to a folder in the layout of a published family (`mmada`, or `llada`, which has no
/// pictures); returns the folders of the model and of its image tokenizer.
///
/// # Panics
/// If the files cannot be copied.
#[must_use]
pub fn lay_out(place: &Path, family: &str) -> (PathBuf, PathBuf) {
    let (folder, image_tokenizer) = (place.join("published"), place.join("magvitv2"));
    let shipped = |name: &str| Path::new(SHIPPED).join(name);
    let copy = |from: PathBuf, to: PathBuf| std::fs::copy(from, to).expect("a copy");
    for folder in [&folder, &image_tokenizer] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    copy(shipped("model.safetensors"), folder.join("model.safetensors"));
    for name in ["config.json", "model.safetensors"] {
        copy(shipped("image_tokenizer").join(name), image_tokenizer.join(name));
    }
    let mut tokenizer = std::fs::read_to_string(shipped("tokenizer.json")).expect("a tokenizer");
    for (ours, theirs) in RENAMED {
        tokenizer = tokenizer.replace(ours, theirs);
    }
    std::fs::write(folder.join("tokenizer.json"), tokenizer).expect("a file");
    let text = std::fs::read_to_string(shipped("config.json")).expect("a configuration");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["model_type"] = json!(family);
    // Space for MMaDA's instruction to reason.
    config["max_sequence_length"] = json!(400);
    if family == "llada" {
        config["codebook_size"] = json!(0);
    }
    std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    (folder, image_tokenizer)
}
