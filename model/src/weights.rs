//! Safetensors in and out, tensor by tensor; every complaint names the file and the tensor.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};

/// Reads every tensor of a file, as it is stored, onto the CPU.
///
/// # Errors
/// A file that is missing, truncated or holds an unknown dtype.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(|source| ModelError::io(path, source))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| ModelError::checkpoint(path, format!("not a whole safetensors file: {error}")))?;
    file.iter()
        .map(|(name, view)| {
            let tensor = tensor_of(&view)
                .map_err(|message| ModelError::checkpoint(path, format!("{name}: {message}")))?;
            Ok((name.to_owned(), tensor))
        })
        .collect()
}

fn tensor_of(view: &TensorView<'_>) -> std::result::Result<Tensor, String> {
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    let kind = match view.dtype() {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => return Err(format!("dtype {other:?}, expected F32, F16, BF16 or I64")),
    };
    Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())
}

/// Writes tensors in the order of their names. Floating tensors are written in `kind` when one is given.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, kind: Option<Kind>) -> Result<()> {
    let stored: BTreeMap<&String, Stored> = tensors
        .iter()
        .map(|(name, tensor)| Ok((name, Stored::of(tensor, kind)?)))
        .collect::<Result<_>>()?;
    let views: BTreeMap<&String, TensorView<'_>> = stored
        .iter()
        .map(|(name, stored)| {
            let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes)
                .map_err(|error| ModelError::checkpoint(path, format!("{name}: {error}")))?;
            Ok((*name, view))
        })
        .collect::<Result<_>>()?;
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| ModelError::checkpoint(path, error.to_string()))?;
    std::fs::write(path, bytes).map_err(|source| ModelError::io(path, source))
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn of(tensor: &Tensor, kind: Option<Kind>) -> Result<Self> {
        let wanted = kind
            .filter(|_| tensor.is_floating_point())
            .unwrap_or_else(|| tensor.kind());
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_to_kind(wanted)?
            .f_contiguous()?;
        let (dtype, width) = match wanted {
            Kind::Double => (Dtype::F64, 8),
            Kind::Half => (Dtype::F16, 2),
            Kind::BFloat16 => (Dtype::BF16, 2),
            Kind::Int64 => (Dtype::I64, 8),
            Kind::Int => (Dtype::I32, 4),
            Kind::Uint8 => (Dtype::U8, 1),
            Kind::Float => (Dtype::F32, 4),
            other => {
                return Err(ModelError::Refused(format!(
                    "a tensor of {other:?} cannot be written"
                )));
            }
        };
        let count = tensor.numel();
        let mut bytes = vec![0; count * width];
        tensor.f_copy_data_u8(&mut bytes, count)?;
        let shape = tensor
            .size()
            .iter()
            .map(|&side| usize::try_from(side).unwrap_or(0))
            .collect();
        Ok(Self { dtype, shape, bytes })
    }
}
