//! Hashes of a checkpoint's weights: two runs with equal final weights have equal hashes.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Returns the BLAKE3 of a checkpoint's `model.safetensors`, as in its manifest.
///
/// # Panics
/// If the folder is not a checkpoint.
#[must_use]
pub fn weights_hash(checkpoint: &Path) -> String {
    file_hash(checkpoint, "model.safetensors")
}

/// Returns the BLAKE3 of a file of a checkpoint, as in its manifest.
///
/// # Panics
/// If the folder is not a checkpoint or has no such file.
#[must_use]
pub fn file_hash(checkpoint: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(checkpoint.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest in JSON");
    let files = manifest["files"].as_array().expect("files");
    let file = files.iter().find(|file| file["name"] == name);
    let hash = file.and_then(|file| file["blake3"].as_str());
    hash.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
}

/// Returns the folder of a run's last checkpoint.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn last_checkpoint(home: &Path, run: &str) -> PathBuf {
    let folder = home.join("checkpoints").join(run);
    let kept = std::fs::read_dir(folder).expect("checkpoints");
    let kept = kept.map(|entry| entry.expect("an entry").path());
    kept.filter(|path| path.join("manifest.json").is_file())
        .max()
        .expect("a checkpoint")
}

/// Returns the BLAKE3 of every tensor file of a checkpoint, including the optimizer's, in the order of their names.
///
/// # Panics
/// If the folder is not a checkpoint.
#[must_use]
pub fn tensor_hashes(checkpoint: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(checkpoint.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest in JSON");
    let files = manifest["files"].as_array().expect("files");
    let mut hashes: Vec<String> = files
        .iter()
        .filter(|file| {
            file["name"]
                .as_str()
                .is_some_and(|name| name.ends_with(".safetensors"))
        })
        .map(|file| format!("{}={}", file["name"], file["blake3"]))
        .collect();
    hashes.sort();
    hashes
}
