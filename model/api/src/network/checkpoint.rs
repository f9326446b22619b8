//! The layout of a checkpoint folder and its manifest.
//!
//! ```text
//! config.json            the backbone (BackboneConfig)
//! model.safetensors      its weights, published parameter names
//! adapter_*              in place of the weights, where an adapter is trained: adapter_config.json (which names the
//!                        base), adapter_model.safetensors, both as PEFT has them
//! quantization_config.json  beside an adapter: what its base was kept in, where that was quantised
//! tokenizer.json         the text tokenizer
//! image_tokenizer/       config.json, model.safetensors
//! optimizer.safetensors  AdamW's moments (and the moving average), when saved for resuming
//! state.json             weights version and the trainer's cursor
//! manifest.json          every file's size and BLAKE3; written last: without it the folder is not a checkpoint
//! ```

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// File names.
pub const MANIFEST: &str = "manifest.json";
/// The backbone's shape.
pub const CONFIG: &str = "config.json";
/// The backbone's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// Which file holds which tensor, where published weights are more than one file.
pub const INDEX: &str = "model.safetensors.index.json";
/// An adapter's shape, as PEFT has it; a checkpoint with one holds no weights of the base, which it names.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// An adapter's weights, as PEFT has them.
pub const ADAPTER: &str = "adapter_model.safetensors";
/// What the base of an adapter was kept in while it was trained, where that was quantised.
pub const QUANTIZATION: &str = "quantization_config.json";
/// The text tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The folder of the image tokenizer.
pub const IMAGE_TOKENIZER: &str = "image_tokenizer";
/// AdamW's moments.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// The trainer's cursor, attached by whoever asks for the save.
pub const STATE: &str = "state.json";

/// Whether a folder holds an adapter in place of weights: its shape is there, and no weights of a base, in one file or
/// several.
#[must_use]
pub fn carries_adapter(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).is_file();
    has(ADAPTER_CONFIG) && !has(WEIGHTS) && !has(INDEX)
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path inside the folder.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3 in hex.
    pub blake3: String,
}

impl ManifestFile {
    /// Whether its name is a path inside the folder, and no other way of writing one.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        !self.name.is_empty() && !self.name.contains('\0') && Path::new(&self.name).components().all(is_plain)
    }
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout version, 1.
    pub version: u32,
    /// Weights version.
    pub step: u64,
    /// Every other file, sorted by name.
    pub files: Vec<ManifestFile>,
}
