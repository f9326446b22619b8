//! Safetensors files, read and written tensor by tensor. Every error names the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::{ModelError, Result};
use crate::weights::stored::StoredTensors;

/// The alignment of the end of the header, so that numbers of eight bytes can follow.
const ALIGNMENT: usize = 8;

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

/// Writes tensors, the widest dtype first and then in the order of their names. If `kind` is given, floating-point tensors
/// are written in that dtype. Only one tensor is copied at a time.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be written, [`ModelError::Refused`] for a dtype that cannot be written, or any error
/// libtorch reports.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, kind: Option<Kind>) -> Result<()> {
    let mut rows: Vec<(&String, &Tensor, Dtype, Kind)> = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let wanted = kind
            .filter(|_| tensor.is_floating_point())
            .unwrap_or_else(|| tensor.kind());
        rows.push((name, tensor, dtype_of(wanted)?, wanted));
    }
    rows.sort_by(|left, right| right.2.cmp(&left.2).then(left.0.cmp(right.0)));
    let header = header(&rows).map_err(|message| ModelError::checkpoint(path, message))?;
    let failed = |source| ModelError::io(path, source);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| file.write_all(&header))
        .map_err(failed)?;
    for (_, tensor, _, kind) in rows {
        heartbeat::beat();
        file.write_all(&bytes_of(tensor, kind)?).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn header(rows: &[(&String, &Tensor, Dtype, Kind)]) -> std::result::Result<Vec<u8>, String> {
    let mut end = 0;
    let infos = rows.iter().map(|(name, tensor, dtype, kind)| {
        let start = end;
        end += tensor.numel() * kind.elt_size_in_bytes();
        let shape = tensor.size();
        let info = TensorInfo {
            dtype: *dtype,
            shape: shape
                .iter()
                .map(|&side| usize::try_from(side).unwrap_or(0))
                .collect(),
            data_offsets: (start, end),
        };
        ((*name).clone(), info)
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
