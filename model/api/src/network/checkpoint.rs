//! The layout of a checkpoint folder and its manifest.
//!
//! ```text
//! config.json            the backbone (BackboneConfig)
//! model.safetensors      the backbone's weights, with the published parameter names
//! adapter_*              in place of the weights if an adapter was trained: adapter_config.json (which names the
//!                        base) and adapter_model.safetensors, both in PEFT's layout
//! quantization_config.json  the storage format of the adapter's base, if that was quantised
//! tokenizer.json         the text tokenizer
//! image_tokenizer/       config.json, model.safetensors
//! optimizer.safetensors  the optimizer's moments and the moving average, if saved for resuming
//! state.json             the weights version and the trainer's cursor
//! manifest.json          size and BLAKE3 hash of every file, written last: a folder without it is no checkpoint
//! ```

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// The manifest ([`Manifest`]).
pub const MANIFEST: &str = "manifest.json";
/// The backbone's configuration.
pub const CONFIG: &str = "config.json";
/// The backbone's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The index of published weights in several files: which file has which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// An adapter's configuration in PEFT's layout. It names the base, whose weights are not in the checkpoint.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// An adapter's weights in PEFT's layout.
pub const ADAPTER: &str = "adapter_model.safetensors";
/// The storage format of an adapter's base during training, if that was quantised.
pub const QUANTIZATION: &str = "quantization_config.json";
/// The text tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The folder of the image tokenizer.
pub const IMAGE_TOKENIZER: &str = "image_tokenizer";
/// The optimizer's moments and the moving average.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The trainer's cursor, which comes with the request to save.
pub const STATE: &str = "state.json";

/// Returns whether a folder contains an adapter in place of weights: an adapter's configuration, and no weights of a
/// backbone in one or several files.
#[must_use]
pub fn has_adapter(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).is_file();
    has(ADAPTER_CONFIG) && !has(WEIGHTS) && !has(INDEX)
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path relative to the checkpoint's folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 hash in hex.
    pub blake3: String,
}

impl ManifestFile {
    /// Returns whether the name is a plain relative path inside the folder, without `.` or `..`.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        !self.name.is_empty() && !self.name.contains('\0') && Path::new(&self.name).components().all(is_plain)
    }
}

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout version, 1.
    pub version: u32,
    /// Weights version.
    pub step: u64,
    /// All other files of the checkpoint, sorted by name.
    pub files: Vec<ManifestFile>,
}
