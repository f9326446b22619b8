//! PyTorch's checkpoint files (`torch.save`: `.pt`, `.pth`, `.bin`), converted to safetensors.
//!
//! Such a file is a pickle, which may ask for a call of any Python function. This reader builds only tensors, numbers,
//! texts and plain containers, and refuses everything else by name: no content of a file is ever executed. Stated sizes
//! are checked against the file's length before memory is allocated.
//!
//! - `error.rs`: the errors of a file;
//! - `source.rs`: the bytes of a file by offset; `archive.rs`: the zip archive of the pickle and the storages;
//!   `legacy.rs`: the format before PyTorch 1.6, a sequence of pickles;
//! - `pickle/`: the pickle interpreter; `allowed.rs`: the names that a pickle may use; `heap.rs`: the values it made;
//!   `allowance.rs`: limits of what a file may consume;
//! - `tree.rs`: nested containers to named tensors; `elements.rs`: a tensor's elements in order, optionally of another
//!   dtype;
//! - `convert.rs`: files and sharded folders to safetensors; `write.rs`: one safetensors file, written atomically.

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

/// An opened checkpoint. Its pickle has been read, but not the elements of its tensors.
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
    /// [`TorchFileError`] if the file cannot be read, is broken or of another kind, or if its pickle asks for more than
    /// tensors.
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

    /// Returns the tensors by name. A name is the keys from the outside in, joined by dots. Without `key`, the file's
    /// own dictionary of tensors is taken, else the only entry that contains any.
    ///
    /// # Errors
    /// An error if there is no tensor, if the key does not exist, or if several dictionaries contain tensors (they are
    /// named).
    pub fn tensors(&self, key: Option<&str>) -> Result<NamedTensors, TorchFileError> {
        tree::tensors(&self.heap, &self.root, key).map_err(|flaw| flaw.at(self.source.path()))
    }
}

/// Describes a file that is not a PyTorch checkpoint.
fn not_ours(start: &[u8]) -> String {
    let found = match start {
        [] => "found an empty file",
        start if start.get(8) == Some(&b'{') => "found a safetensors file, which needs no conversion",
        start if start.starts_with(b"\x80") => "found a pickle that torch.save did not write",
        start if start.starts_with(b"version https://git-lfs") => {
            "found a git-lfs pointer instead of the file (fetch the file with git lfs pull)"
        }
        start if start.starts_with(b"<") => "found an HTML page",
        _ => "found neither a zip archive nor a pickle",
    };
    format!("{found}; expected a checkpoint that torch.save wrote")
}
