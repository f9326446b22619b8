//! Safetensors files, read tensor by tensor and written piece by piece. Every error names the file.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::{ModelError, Result};
use crate::weights::stored::StoredTensors;

/// The alignment of the end of the header, so that numbers of eight bytes can follow.
const ALIGNMENT: usize = 8;
/// The most elements that [`write`] converts and writes between two heartbeats.
const WRITTEN_AT_ONCE: i64 = 4 << 20;
/// The number of bytes after which a file is flushed to disk while it is written. L10: a long flush at the end would show
/// no progress, and could not be told from a disk that does not answer.
const FLUSHED_AT_ONCE: usize = 32 << 20;

/// Reads every tensor of a file onto the CPU, in its stored dtype.
///
/// # Errors
/// An error if the file is missing or truncated, or has an unknown dtype.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let stored = StoredTensors::in_file(path)?;
    stored
        .names()
        .map(|name| Ok((name.to_owned(), stored.read(name)?)))
        .collect()
}

/// Writes tensors to a file. If `kind` is given, floating-point tensors are written in that dtype. Only a piece of a tensor
/// is copied at a time, unless it is not contiguous.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be written, [`ModelError::Refused`] for a dtype that cannot be written, or any
/// error libtorch reports.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, kind: Option<Kind>) -> Result<()> {
    let entries = tensors.iter().map(|(name, tensor)| {
        let wanted = kind
            .filter(|_| tensor.is_floating_point())
            .unwrap_or_else(|| tensor.kind());
        Entry::new(name, wanted, &tensor.size())
    });
    let file = PiecewiseFile::create(path, entries.collect::<Result<_>>()?)?;
    for (name, tensor) in tensors {
        let flat = tensor.f_detach()?.f_contiguous()?.f_view([-1])?;
        for (number, piece) in (0_i64..).zip(flat.f_split(WRITTEN_AT_ONCE, 0)?) {
            file.write(name, number * WRITTEN_AT_ONCE, &piece)?;
        }
    }
    Ok(())
}

/// The entry of a tensor in the header of a file.
#[derive(Clone, Debug)]
pub struct Entry {
    name: String,
    kind: Kind,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Entry {
    /// Creates the entry of a tensor.
    ///
    /// # Errors
    /// [`ModelError::Refused`] for a dtype that cannot be written.
    pub fn new(name: &str, kind: Kind, shape: &[i64]) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            kind,
            dtype: dtype_of(kind)?,
            shape: shape
                .iter()
                .map(|&side| usize::try_from(side).unwrap_or(0))
                .collect(),
        })
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}

/// A file whose tensors are written in pieces, in any order.
#[derive(Debug)]
pub struct PiecewiseFile {
    path: PathBuf,
    file: File,
    /// The offset of each tensor's data in the file, in bytes.
    starts: BTreeMap<String, (u64, Kind)>,
    /// The number of bytes written since the last flush to disk.
    unflushed: Cell<usize>,
}

impl PiecewiseFile {
    /// Creates the file with its header, and zeros in place of all numbers.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the file cannot be written.
    pub fn create(path: &Path, mut entries: Vec<Entry>) -> Result<Self> {
        order(&mut entries);
        let header = header(&entries).map_err(|message| ModelError::checkpoint(path, message))?;
        let failed = |source| ModelError::io(path, source);
        let mut file = File::create(path).map_err(failed)?;
        let length = (header.len() as u64).to_le_bytes();
        file.write_all(&length)
            .and_then(|()| file.write_all(&header))
            .map_err(failed)?;
        let mut end = (length.len() + header.len()) as u64;
        let mut starts = BTreeMap::new();
        for entry in entries {
            let bytes = entry.bytes() as u64;
            starts.insert(entry.name, (end, entry.kind));
            end += bytes;
        }
        file.set_len(end).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            starts,
            unflushed: Cell::new(0),
        })
    }

    /// Writes a piece of a tensor. The first element of the piece has the index `at` in the flattened tensor.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the file cannot be written, [`ModelError::Refused`] if the file has no tensor of this name
    /// (a bug in this crate), or any error libtorch reports.
    pub fn write(&self, name: &str, at: i64, piece: &Tensor) -> Result<()> {
        let Some((start, kind)) = self.starts.get(name) else {
            return Err(ModelError::Refused(format!(
                "{}: no tensor {name}",
                self.path.display()
            )));
        };
        heartbeat::beat();
        let at = at.unsigned_abs() * kind.elt_size_in_bytes() as u64;
        let failed = |source| ModelError::io(&self.path, source);
        let bytes = bytes_of(piece, *kind)?;
        self.file.write_all_at(&bytes, start + at).map_err(failed)?;
        self.unflushed.set(self.unflushed.get() + bytes.len());
        if self.unflushed.get() >= FLUSHED_AT_ONCE {
            heartbeat::beat();
            self.file.sync_data().map_err(failed)?;
            self.unflushed.set(0);
        }
        Ok(())
    }
}

/// Sorts entries into the order of a file: the widest dtype first, then by name.
fn order(entries: &mut [Entry]) {
    entries.sort_by(|left, right| right.dtype.cmp(&left.dtype).then(left.name.cmp(&right.name)));
}

fn header(entries: &[Entry]) -> std::result::Result<Vec<u8>, String> {
    let mut end = 0;
    let infos = entries.iter().map(|entry| {
        let start = end;
        end += entry.bytes();
        let info = TensorInfo {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            data_offsets: (start, end),
        };
        (entry.name.clone(), info)
    });
    let metadata = Metadata::new(None, infos.collect()).map_err(|error| error.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    Ok(header)
}

fn bytes_of(tensor: &Tensor, kind: Kind) -> Result<Vec<u8>> {
    let tensor = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(kind)?
        .f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

fn dtype_of(kind: Kind) -> Result<Dtype> {
    Ok(match kind {
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Uint8 => Dtype::U8,
        Kind::Float => Dtype::F32,
        other => {
            let message = format!("a tensor of {other:?} cannot be written");
            return Err(ModelError::Refused(message));
        }
    })
}
