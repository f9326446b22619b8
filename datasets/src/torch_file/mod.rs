//! PyTorch's own checkpoint files (`torch.save`: `.pt`, `.pth`, `.bin`) turned into safetensors.
//!
//! Such a file is a pickle, which may ask for any Python function to be called. The reader here builds tensors,
//! numbers, texts and plain containers and refuses everything else by name: nothing of a file is ever run. What a file
//! says of sizes is checked against its length before memory is asked for.
//!
//! - `error.rs`: what can be wrong with a file;
//! - `source.rs`: bytes of a file by place; `archive.rs`: the zip that holds a pickle and the storages;
//!   `legacy.rs`: the same before PyTorch 1.6, one pickle after another;
//! - `pickle.rs`: the machine that reads a pickle; `allowed.rs`: what a pickle may name; `heap.rs`: what it made;
//!   `allowance.rs`: what a file may cost;
//! - `tree.rs`: nested containers to named tensors; `elements.rs`: a tensor's elements in order, of another dtype if
//!   wanted;
//! - `convert.rs`: files and folders of shards to safetensors; `write.rs`: a safetensors file, whole or not at all.

mod allowance;
mod allowed;
mod archive;
mod convert;
mod elements;
mod error;
mod heap;
mod legacy;
mod pickle;
mod source;
mod tree;
mod write;

use std::collections::HashMap;
use std::path::Path;

pub use convert::{ConvertOptions, Converted, convert};
pub use error::TorchFileError;
pub use safetensors::Dtype;
pub use tree::NamedTensors;

use crate::torch_file::error::Flaw;
use crate::torch_file::heap::{Heap, HeapValue};
use crate::torch_file::source::{OpenFile, Region};

/// An opened checkpoint: its pickle has been read, its tensors' elements have not.
#[derive(Debug)]
pub struct TorchFile {
    source: OpenFile,
    regions: HashMap<String, Region>,
    heap: Heap,
    root: HeapValue,
}

impl TorchFile {
    /// Opens a file and reads its pickle.
    ///
    /// # Errors
    /// [`TorchFileError`]: it cannot be read, is none or is broken, or its pickle asks for more than tensors.
    pub fn open(path: &Path) -> Result<Self, TorchFileError> {
        Self::read(path).map_err(|flaw| flaw.at(path))
    }

    fn read(path: &Path) -> Result<Self, Flaw> {
        let source = OpenFile::open(path)?;
        match source.peek()? {
            start if start.starts_with(b"PK\x03\x04") => archive::read(source),
            start if start.starts_with(&legacy::MAGIC) => legacy::read(source),
            start => Err(Flaw::Broken(not_ours(&start))),
        }
    }

    /// The tensors, named by their keys from the outside in, joined by dots. Without a key the file's own dictionary
    /// of tensors is meant, or the only one among its entries that holds any.
    ///
    /// # Errors
    /// No tensor at all; a key that leads nowhere; several dictionaries that hold tensors, named.
    pub fn tensors(&self, key: Option<&str>) -> Result<NamedTensors, TorchFileError> {
        tree::tensors(&self.heap, &self.root, key).map_err(|flaw| flaw.at(self.source.path()))
    }
}

/// What a file that is no checkpoint of PyTorch's looks like.
fn not_ours(start: &[u8]) -> String {
    let found = match start {
        [] => "an empty file",
        start if start.get(8) == Some(&b'{') => "a safetensors file, which needs no converting",
        start if start.starts_with(b"\x80") => "a pickle that torch.save did not write",
        start if start.starts_with(b"version https://git-lfs") => {
            "a pointer of git-lfs, not the file itself: fetch it with git lfs pull"
        }
        start if start.starts_with(b"<") => "an HTML page",
        _ => "neither a zip archive nor a pickle",
    };
    format!("{found}; expected a checkpoint that torch.save wrote")
}
