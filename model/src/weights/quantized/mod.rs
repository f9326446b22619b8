//! Frozen weights in published quantization formats. A weight is quantized once and dequantized for every
//! matrix product.
//!
//! - `nf4.rs`: four bits, in blocks of 64;
//! - `blockwise.rs`: eight bits in blocks of 256, for the constants of NF4;
//! - `int8.rs`: eight bits, by rows;
//! - `leaves.rs`: the quantized weights of a network's blocks.
//!
//! Not here: the matrix product with a quantized weight (`device/kernels/frozen_linear.rs`), and the sizes of
//! the formats (`demask_api::frozen_base`).

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

/// A weight in one of the formats.
#[derive(Debug)]
pub enum QuantizedTensor {
    /// bf16, without quantization.
    Bf16(Tensor),
    /// Eight bits, by rows.
    Int8(Int8Tensor),
    /// Four bits, in blocks.
    Nf4(Nf4Tensor),
}

impl QuantizedTensor {
    /// Quantizes a weight [O, I] on its device.
    ///
    /// # Errors
    /// Returns an error if `form` names no format, and libtorch's errors.
    pub fn of(weight_OI: &Tensor, form: FrozenBase) -> Result<Self> {
        match form.dtype {
            BaseDtype::Bf16 => Ok(Self::Bf16(weight_OI.f_to_kind(Kind::BFloat16)?)),
            BaseDtype::Int8 => Ok(Self::Int8(Int8Tensor::of(weight_OI)?)),
            BaseDtype::Nf4 => Ok(Self::Nf4(Nf4Tensor::of(weight_OI, form.double_quantization)?)),
            BaseDtype::Auto => Err(ModelError::Refused(
                "the quantised weight has no storage format".into(),
            )),
        }
    }

    /// Writes the dequantized weight to `into`, which is [O, I], contiguous, and of any floating-point dtype.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn write(&self, into: &mut Tensor) -> Result<()> {
        match self {
            Self::Bf16(weight_OI) => Ok(into.f_copy_(weight_OI)?),
            Self::Int8(weight_OI) => weight_OI.write(into),
            Self::Nf4(weight_OI) => weight_OI.write(into),
        }
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Bf16(weight_OI) => bytes_of(&[weight_OI]),
            Self::Int8(weight_OI) => weight_OI.bytes(),
            Self::Nf4(weight_OI) => weight_OI.bytes(),
        }
    }
}

/// Returns the size of tensors in bytes.
fn bytes_of(tensors: &[&Tensor]) -> u64 {
    let bytes = tensors
        .iter()
        .map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes());
    bytes.sum::<usize>() as u64
}

/// Returns the factor of each block that scales its largest magnitude to 1. The factor of a block of zeros is
/// finite, so the block stays zero.
fn reciprocal(absmax_K: &Tensor) -> Result<Tensor> {
    // The smallest magnitude that is inverted. Neither its reciprocal nor 127 times that overflows f32.
    const LEAST: f64 = 1e-36;
    Ok(absmax_K.f_clamp_min(LEAST)?.f_reciprocal()?)
}
