//! Writes a safetensors file tensor by tensor, atomically.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use demask_api::work_file;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Serialize;

use super::TorchFile;
use super::elements::written;
use super::error::{Flaw, TorchFileError, broken};
use super::heap::{Tensor, width};
use super::tree::NamedTensors;

/// The limit of the output: a multiple of the input's length plus spare bytes. Tensors that share storage (such as
/// expanded views) would otherwise fill the disk.
const SPARE: u64 = 1 << 30;
const MULTIPLE: u64 = 16;

/// The header of a safetensors file, sorted by name so that equal tensors give equal bytes.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Writes the named tensors; returns the bytes of their elements.
pub(super) fn write(
    file: &TorchFile,
    named: &NamedTensors,
    dtype: Option<Dtype>,
    path: &Path,
) -> Result<u64, TorchFileError> {
    let inside = |flaw: Flaw| flaw.at(file.source.path());
    for storage in used(file, named) {
        let region = file.regions.get(storage).copied();
        let check = region.map(|region| file.source.check(region, &format!("storage {storage}")));
        check.unwrap_or(Ok(())).map_err(inside)?;
    }
    let (header, order, bytes) = plan(file, named, dtype).map_err(inside)?;
    let work = work_file::beside(path);
    let done = fill(file, &header, &order, dtype, &work)
        .and_then(|()| work_file::settle(&work, path).map_err(|source| Flaw::Io(source).at(path)));
    if done.is_err() {
        std::fs::remove_file(&work).ok();
    }
    done.map(|()| bytes)
}

/// Returns the names of the storages that the tensors use, each once.
fn used<'a>(file: &'a TorchFile, named: &NamedTensors) -> std::collections::BTreeSet<&'a str> {
    let storage = |&number: &usize| &*file.heap.storage(file.heap.tensor(number).storage).key;
    named.tensors.values().map(storage).collect()
}

/// Returns the header, the tensors in file order, and the bytes of their elements. Wide elements come first, so that
/// each tensor is aligned.
fn plan<'a>(
    file: &'a TorchFile,
    named: &'a NamedTensors,
    dtype: Option<Dtype>,
) -> Result<(Vec<u8>, Vec<&'a Tensor>, u64), Flaw> {
    let mut order: Vec<(&str, &Tensor)> = named
        .tensors
        .iter()
        .map(|(name, &number)| (name.as_str(), file.heap.tensor(number)))
        .collect();
    order.sort_by_key(|&(name, tensor)| (std::cmp::Reverse(width(written(tensor.dtype, dtype))), name));
    let limit = file.source.len().saturating_mul(MULTIPLE).saturating_add(SPARE);
    let (mut end, mut tensors) = (0u64, BTreeMap::new());
    for &(name, tensor) in &order {
        let kind = written(tensor.dtype, dtype);
        let start = end;
        let len = tensor.count().and_then(|count| count.checked_mul(width(kind)));
        let Some(next) = len
            .and_then(|len| end.checked_add(len))
            .filter(|&next| next <= limit)
        else {
            let whole = file.source.len();
            return broken(format!(
                "tensor {name} of shape {:?} repeats its storage: it would take more than {limit} bytes, from a file of {whole} bytes",
                tensor.shape
            ));
        };
        end = next;
        let info = TensorInfo {
            dtype: kind,
            shape: tensor.shape.iter().map(|&side| side as usize).collect(),
            data_offsets: (start as usize, end as usize),
        };
        tensors.insert(name, info);
    }
    let header = Header {
        metadata: BTreeMap::from([("format", "pt")]),
        tensors,
    };
    let mut header = serde_json::to_vec(&header).map_err(|error| Flaw::Broken(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok((header, order.into_iter().map(|(_, tensor)| tensor).collect(), end))
}

fn fill(
    file: &TorchFile,
    header: &[u8],
    order: &[&Tensor],
    dtype: Option<Dtype>,
    work: &Path,
) -> Result<(), TorchFileError> {
    let outside = |source: std::io::Error| Flaw::Io(source).at(work);
    let mut out = work_file::create(work).map_err(outside)?;
    out.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(outside)?;
    out.write_all(header).map_err(outside)?;
    for tensor in order {
        let mut refused = None;
        let sent = file.elements(tensor, written(tensor.dtype, dtype), &mut |piece| {
            out.write_all(piece).or_else(|source| {
                refused = Some(source);
                broken("")
            })
        });
        if let Some(source) = refused {
            return Err(outside(source));
        }
        sent.map_err(|flaw| flaw.at(file.source.path()))?;
    }
    out.sync_all().map_err(outside)
}
