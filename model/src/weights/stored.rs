//! The stored tensors of a checkpoint folder: one safetensors file, or several with an index
//! (`model.safetensors.index.json`, `mmada.md` 1.2).
//!
//! Opening reads only the headers. To read a tensor, its bytes are mapped, copied to their destination and dtype, and
//! unmapped, so that reading takes no memory beyond one tensor. Tensors for a GPU are read through `staging.rs`
//! instead.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use demask_api::checkpoint::{INDEX, WEIGHTS};
use demask_api::{bounded_file, bounded_json, limits};
use memmap2::{Mmap, MmapOptions};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::{ModelError, Result};
use crate::weights::staging::Staging;

/// The names under which a single file of weights is published.
const SINGLE: [&str; 3] = [
    WEIGHTS,
    "pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors",
];
/// PyTorch's pickles, which are not read here.
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
/// The number of bytes at the start of a file that hold the length of the header.
const LENGTH: u64 = 8;

/// Tensors on disk, by name.
#[derive(Debug)]
pub struct StoredTensors {
    /// The file or the index, which errors name.
    path: PathBuf,
    files: Vec<(PathBuf, File)>,
    entries: BTreeMap<String, StoredTensor>,
    /// The buffer for transfers to a GPU, allocated at the first.
    staging: RefCell<Option<Staging>>,
}

/// The location, dtype and shape of a stored tensor.
#[derive(Debug)]
struct StoredTensor {
    file: usize,
    offset: u64,
    bytes: usize,
    kind: Kind,
    shape: Vec<i64>,
}

/// The contents of `model.safetensors.index.json`.
#[derive(Deserialize)]
struct SafetensorsIndex {
    weight_map: BTreeMap<String, String>,
}

impl StoredTensors {
    /// Opens the weights of a folder: a single file if there is one, otherwise the files that its index lists.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] if there are no weights, the index or a file is broken, or a listed file is missing.
    /// [`ModelError::Io`] if a file cannot be read.
    pub fn in_folder(dir: &Path) -> Result<Self> {
        if let Some(file) = SINGLE
            .iter()
            .map(|name| dir.join(name))
            .find(|file| file.is_file())
        {
            return Self::in_file(&file);
        }
        let index = dir.join(INDEX);
        if index.is_file() {
            return Self::indexed(dir, &index);
        }
        let pickle = PICKLES.iter().find(|name| dir.join(name).is_file());
        let message = pickle.map_or_else(
            || format!("no weights: expected {WEIGHTS} or {INDEX}"),
            |name| format!("found only {name}, a PyTorch pickle; expected {WEIGHTS} or {INDEX}: convert it first (`demask convert`)"),
        );
        Err(ModelError::checkpoint(dir, message))
    }

    /// Opens the tensors of one file.
    ///
    /// # Errors
    /// An error if the file is missing or truncated, or has an unknown dtype.
    pub fn in_file(path: &Path) -> Result<Self> {
        let mut stored = Self {
            path: path.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            staging: RefCell::default(),
        };
        stored.add(path, |_| true)?;
        Ok(stored)
    }

    fn indexed(dir: &Path, path: &Path) -> Result<Self> {
        let text = bounded_file::read_text(path, limits::LONGEST_CONFIG)
            .map_err(|source| ModelError::io(path, source))?;
        let index = bounded_json::parse(&text, limits::MOST_CONFIG_VALUES);
        let index: SafetensorsIndex = index.map_err(|error| {
            ModelError::checkpoint(path, format!("this is not an index of weights: {error}"))
        })?;
        let mut stored = Self {
            path: path.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            staging: RefCell::default(),
        };
        let files: BTreeSet<&String> = index.weight_map.values().collect();
        for name in files {
            let file = shard(dir, path, name, &index)?;
            // A tensor that the index lists in another file is skipped.
            stored.add(&file, |tensor| {
                index.weight_map.get(tensor).is_none_or(|place| place == name)
            })?;
        }
        let absent = |(tensor, _): &(&String, &String)| !stored.entries.contains_key(*tensor);
        match index.weight_map.iter().find(absent) {
            Some((tensor, file)) => Err(ModelError::checkpoint(
                path,
                format!("it lists tensor {tensor} in {file}, which does not contain it"),
            )),
            None => Ok(stored),
        }
    }

    /// Adds the tensors of a file for which `wanted` is true.
    fn add(&mut self, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let broken = |error: String| {
            ModelError::checkpoint(path, format!("this is not a complete safetensors file: {error}"))
        };
        let file = bounded_file::open(path).map_err(|source| ModelError::io(path, source))?;
        // SAFETY: the map is only read here, for the header. If another process truncates the file meanwhile, the
        // process ends with SIGBUS, as any reader of a map does.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| ModelError::io(path, source))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|error| broken(error.to_string()))?;
        for (name, info) in metadata.tensors() {
            if !wanted(&name) {
                continue;
            }
            let kind = kind_of(info.dtype)
                .map_err(|message| ModelError::checkpoint(path, format!("{name}: {message}")))?;
            let (start, end) = info.data_offsets;
            let entry = StoredTensor {
                file: self.files.len(),
                offset: LENGTH + (header + start) as u64,
                bytes: end - start,
                kind,
                shape: info.shape.iter().map(|&side| side as i64).collect(),
            };
            self.entries.insert(name, entry);
        }
        self.files.push((path.to_owned(), file));
        Ok(())
    }

    /// Returns the path of the file or of the index, for error messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the shape of a tensor, or `None` if there is no such tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Returns the dtype of a tensor, or `None` if there is no such tensor.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).map(|entry| entry.kind)
    }

    /// Reads a tensor into new memory on the CPU, in its stored dtype.
    ///
    /// # Errors
    /// An error if there is no such tensor or its file cannot be mapped, or any error libtorch reports.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        self.mapped(name, |tensor| {
            let mut copy = tensor.f_empty_like()?;
            copy.f_copy_(tensor)?;
            Ok(copy)
        })
    }

    /// Reads some ranges of a tensor's elements and returns them one after the other. A range is the index of its first
    /// element and its length. Nothing else of the tensor is read.
    ///
    /// # Errors
    /// An error if there is no such tensor, if a range is not within it or if the file cannot be read, or any error
    /// libtorch reports.
    pub fn read_ranges(&self, name: &str, ranges: impl Iterator<Item = (i64, i64)>) -> Result<Tensor> {
        let entry = self.entry(name)?;
        let width = entry.kind.elt_size_in_bytes();
        let (path, file) = &self.files[entry.file];
        let mut bytes = Vec::new();
        for (start, length) in ranges {
            heartbeat::beat();
            let place = |number: i64| usize::try_from(number).ok()?.checked_mul(width);
            let inside = place(start)
                .zip(place(length))
                .filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= entry.bytes));
            let Some((start, length)) = inside else {
                let message = format!(
                    "{name} has {} bytes, which do not contain {length} numbers from number {start} on",
                    entry.bytes
                );
                return Err(ModelError::checkpoint(&self.path, message));
            };
            let at = bytes.len();
            bytes.resize(at + length, 0);
            file.read_exact_at(&mut bytes[at..], entry.offset + start as u64)
                .map_err(|source| ModelError::io(path, source))?;
        }
        let count = (bytes.len() / width) as i64;
        Ok(Tensor::f_from_data_size(&bytes, &[count], entry.kind)?)
    }

    /// Copies a tensor into one of the same shape, converted to its dtype.
    ///
    /// # Errors
    /// The errors of [`Self::read`].
    pub fn copy_to(&self, name: &str, into: &mut Tensor) -> Result<()> {
        if into.device().is_cuda() && into.is_contiguous() {
            return self.staged(name, into);
        }
        self.mapped(name, |tensor| Ok(tch::no_grad(|| into.f_copy_(tensor))?))
    }

    fn entry(&self, name: &str) -> Result<&StoredTensor> {
        heartbeat::beat();
        let entry = self.entries.get(name);
        entry.ok_or_else(|| ModelError::checkpoint(&self.path, format!("there is no tensor {name}")))
    }

    /// Copies a tensor to a GPU through pinned memory.
    fn staged(&self, name: &str, into: &Tensor) -> Result<()> {
        let entry = self.entry(name)?;
        let (path, file) = &self.files[entry.file];
        let mut staging = self.staging.borrow_mut();
        let staging = match &mut *staging {
            Some(staging) => staging,
            none => none.insert(Staging::new(into.device())?),
        };
        let copied = staging.copy(file, (entry.offset, entry.bytes), entry.kind, into)?;
        copied.map_err(|source| ModelError::io(path, source))
    }

    /// Calls `work` with a tensor over the mapped bytes of the file.
    fn mapped<T>(&self, name: &str, work: impl FnOnce(&Tensor) -> Result<T>) -> Result<T> {
        let entry = self.entry(name)?;
        if entry.bytes == 0 {
            return work(&Tensor::f_empty(&entry.shape[..], (entry.kind, Device::Cpu))?);
        }
        let (path, file) = &self.files[entry.file];
        // SAFETY: the map outlives the tensor over it, and nothing writes to that tensor.
        let map = unsafe {
            MmapOptions::new()
                .offset(entry.offset)
                .len(entry.bytes)
                .populate()
                .map(file)
        }
        .map_err(|source| ModelError::io(path, source))?;
        let width = entry.kind.elt_size_in_bytes();
        if map.as_ptr().align_offset(width) != 0 {
            return work(&Tensor::f_from_data_size(&map, &entry.shape, entry.kind)?);
        }
        // SAFETY: the map has as many bytes as the shape and dtype need, which reading the header has checked.
        let tensor = unsafe {
            let strides = strides(&entry.shape);
            Tensor::f_from_blob(map.as_ptr(), &entry.shape, &strides, entry.kind, Device::Cpu)?
        };
        work(&tensor)
    }
}

/// Returns the path of a file that an index lists. The name must not leave the folder.
fn shard(dir: &Path, index_path: &Path, name: &str, index: &SafetensorsIndex) -> Result<PathBuf> {
    if name.contains('/') || name.contains('\\') || name.starts_with('.') || name.is_empty() {
        let message = format!("it lists the file {name:?}, expected a plain name");
        return Err(ModelError::checkpoint(index_path, message));
    }
    let file = dir.join(name);
    match std::fs::metadata(&file) {
        Ok(_) => Ok(file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let count = index.weight_map.values().filter(|place| *place == name).count();
            let message = format!("the file is missing; {INDEX} lists {count} tensors in it");
            Err(ModelError::checkpoint(&file, message))
        }
        Err(error) => Err(ModelError::io(&file, error)),
    }
}

fn strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at].max(1);
    }
    strides
}

fn kind_of(dtype: Dtype) -> std::result::Result<Kind, String> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => return Err(format!("dtype {other:?}, expected F32, F16, BF16 or I64")),
    })
}
