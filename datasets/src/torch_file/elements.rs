//! The elements of a tensor in row-major order, whatever its strides, optionally converted to another floating-point
//! type. A contiguous tensor is read a piece at a time; of another, its whole range of the storage is in memory.

use half::{bf16, f16};
use safetensors::Dtype;

use super::TorchFile;
use super::error::{Flaw, broken, short};
use super::heap::{Tensor, width};
use super::source::CHUNK;

/// The consumer of elements.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Flaw> + 'a;

impl TorchFile {
    /// Passes a tensor's elements to `sink`, row-major and little-endian.
    pub(super) fn elements(&self, tensor: &Tensor, dtype: Dtype, sink: &mut Sink<'_>) -> Result<(), Flaw> {
        let storage = self.heap.storage(tensor.storage);
        let region = match self.regions.get(&*storage.key) {
            Some(region) if Some(region.len) == storage.bytes() => *region,
            found => {
                let (key, bytes) = (short(&storage.key), storage.bytes().unwrap_or(u64::MAX));
                let found = found.map_or(0, |region| region.len);
                return broken(format!(
                    "storage {key} has {found} bytes, expected {bytes}: the file may be incomplete"
                ));
            }
        };
        let width = width(tensor.dtype);
        let (start, span) = (region.start + tensor.offset * width, tensor.span() * width);
        let mut out = |piece: &[u8]| match converted(piece, tensor.dtype, dtype) {
            Some(piece) => sink(&piece),
            None => sink(piece),
        };
        if tensor.is_contiguous() {
            return self.source.stream(start, span, &mut out);
        }
        gather(&self.source.read(start, span)?, tensor, &mut out)
    }
}

/// Walks over a tensor's indices and picks its elements out of its range of the storage.
fn gather(stretch: &[u8], tensor: &Tensor, sink: &mut Sink<'_>) -> Result<(), Flaw> {
    let width = width(tensor.dtype) as usize;
    let (mut left, mut at) = (tensor.count().unwrap_or(0), 0);
    let mut index = vec![0; tensor.shape.len()];
    let mut piece = Vec::with_capacity(CHUNK.min(left.saturating_mul(width as u64) as usize));
    while left > 0 {
        let from = at as usize * width;
        piece.extend_from_slice(&stretch[from..from + width]);
        if piece.len() >= CHUNK {
            sink(&piece)?;
            piece.clear();
        }
        left -= 1;
        at = advance(&mut index, tensor, at);
    }
    sink(&piece)
}

/// Returns the offset of the next element: the innermost index that can advances, and those inside it restart.
fn advance(index: &mut [u64], tensor: &Tensor, mut at: u64) -> u64 {
    for side in (0..index.len()).rev() {
        let stride = tensor.strides[side];
        if index[side] + 1 < tensor.shape[side] {
            index[side] += 1;
            return at + stride;
        }
        at -= index[side] * stride;
        index[side] = 0;
    }
    at
}

/// Converts whole elements to another floating-point type via f32 with rounding to nearest, as PyTorch does; `None` if
/// the type stays.
fn converted(piece: &[u8], from: Dtype, to: Dtype) -> Option<Vec<u8>> {
    if from == to {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)]
    let numbers: Box<dyn Iterator<Item = f32>> = match from {
        Dtype::F64 => Box::new(chunks::<8>(piece).map(|bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F32 => Box::new(chunks::<4>(piece).map(f32::from_le_bytes)),
        Dtype::F16 => Box::new(chunks::<2>(piece).map(|bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Box::new(chunks::<2>(piece).map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
        _ => return None,
    };
    Some(match to {
        Dtype::F32 => numbers.flat_map(f32::to_le_bytes).collect(),
        Dtype::F16 => numbers
            .flat_map(|number| f16::from_f32(number).to_le_bytes())
            .collect(),
        Dtype::BF16 => numbers
            .flat_map(|number| bf16::from_f32(number).to_le_bytes())
            .collect(),
        _ => return None,
    })
}

fn chunks<const N: usize>(piece: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    piece.chunks_exact(N).filter_map(|bytes| bytes.try_into().ok())
}

/// Returns the type in which a tensor is written.
pub(super) fn written(found: Dtype, wanted: Option<Dtype>) -> Dtype {
    let floating = matches!(found, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    wanted.filter(|_| floating).unwrap_or(found)
}
