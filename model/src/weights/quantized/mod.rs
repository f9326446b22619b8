//! Frozen weights in fewer bits, each in a published format: quantised once, dequantised for every product.
//!
//! - `nf4.rs`: four bits, by blocks of 64; `blockwise.rs`: eight bits by blocks of 256, for the constants of those;
//! - `int8.rs`: eight bits, by rows;
//! - `leaves.rs`: the weights of a network's blocks, kept so.
//!
//! Not here: how a product is taken with one (`device/kernels/frozen_linear.rs`), what the formats take
//! (`demask_api::frozen_base`).

#![allow(non_snake_case)]

pub mod blockwise;
pub mod int8;
pub mod leaves;
pub mod nf4;

use demask_api::{BaseDtype, FrozenBase};
use tch::{Kind, Tensor};

use crate::error::{ModelError, Result};
use int8::Int8Tensor;
use nf4::Nf4Tensor;

/// One weight in one of the formats.
#[derive(Debug)]
pub enum QuantizedTensor {
    /// bfloat16.
    Bf16(Tensor),
    /// Eight bits, by rows.
    Int8(Int8Tensor),
    /// Four bits, by blocks.
    Nf4(Nf4Tensor),
}

impl QuantizedTensor {
    /// Quantises a weight [O, I] where it lies.
    ///
    /// # Errors
    /// A format that is none; libtorch's.
    pub fn of(weight_OI: &Tensor, form: FrozenBase) -> Result<Self> {
        match form.dtype {
            BaseDtype::Bf16 => Ok(Self::Bf16(weight_OI.f_to_kind(Kind::BFloat16)?)),
            BaseDtype::Int8 => Ok(Self::Int8(Int8Tensor::of(weight_OI)?)),
            BaseDtype::Nf4 => Ok(Self::Nf4(Nf4Tensor::of(weight_OI, form.double_quantization)?)),
            BaseDtype::Auto => Err(ModelError::Refused("a quantised weight of no format".into())),
        }
    }

    /// Writes the dequantised weight: `into` is [O, I], contiguous, of any floating dtype.
    ///
    /// # Errors
    /// libtorch's.
    pub fn write(&self, into: &mut Tensor) -> Result<()> {
        match self {
            Self::Bf16(weight_OI) => Ok(into.f_copy_(weight_OI)?),
            Self::Int8(weight_OI) => weight_OI.write(into),
            Self::Nf4(weight_OI) => weight_OI.write(into),
        }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Bf16(weight_OI) => bytes_of(&[weight_OI]),
            Self::Int8(weight_OI) => weight_OI.bytes(),
            Self::Nf4(weight_OI) => weight_OI.bytes(),
        }
    }
}

/// Bytes of tensors.
fn bytes_of(tensors: &[&Tensor]) -> u64 {
    let bytes = tensors
        .iter()
        .map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes());
    bytes.sum::<usize>() as u64
}

/// By how much a block is multiplied before it is looked up: so that its largest magnitude becomes 1; of a block of zeros all is zero.
fn reciprocal(absmax_K: &Tensor) -> Result<Tensor> {
    // Neither this nor 127 times what is divided by it leaves f32.
    const LEAST: f64 = 1e-36;
    Ok(absmax_K.f_clamp_min(LEAST)?.f_reciprocal()?)
}
