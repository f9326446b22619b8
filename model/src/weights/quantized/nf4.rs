//! NF4, the 4-bit NormalFloat of QLoRA (arXiv 2305.14314, section 3 and appendix E): sixteen values that are
//! quantiles of a normal distribution scaled to [-1, 1]. Each block of 64 numbers is divided by its absmax. A
//! byte holds two codes, the first one in its upper half, as bitsandbytes packs them.
//!
//! Legend: N numbers, K blocks.

#![allow(non_snake_case)]

use demask_api::frozen_base::{DEQUANTIZED_AT_ONCE, NF4_BLOCK};
use tch::{Kind, Tensor};

use super::blockwise::Blockwise;
use super::{bytes_of, reciprocal};
use crate::error::Result;

/// The sixteen values (QLoRA, appendix E).
#[allow(clippy::excessive_precision)]
pub const VALUES: [f32; 16] = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
];

/// Numbers per block.
const BLOCK: i64 = NF4_BLOCK as i64;
/// Blocks that are quantized or dequantized at a time.
const AT_ONCE: i64 = DEQUANTIZED_AT_ONCE as i64 / BLOCK;

/// A weight in NF4. Its last block is padded with zeros.
#[derive(Debug)]
pub struct Nf4Tensor {
    /// Codes, two per byte, u8 [K * 32].
    codes: Tensor,
    magnitudes: Magnitudes,
    /// The two values of each possible byte, f32 [256, 2].
    pairs: Tensor,
    numbers: i64,
}

/// The largest magnitude of each block.
#[derive(Debug)]
enum Magnitudes {
    /// Unquantized, f32 [K].
    Plain(Tensor),
    /// Double quantization: the differences to their mean in eight bits, and the mean.
    Double(Blockwise, Tensor),
}

impl Magnitudes {
    fn quantized(absmax_K: &Tensor) -> Result<Self> {
        let mean = absmax_K.f_mean(Kind::Float)?;
        Ok(Self::Double(Blockwise::of(&absmax_K.f_sub(&mean)?)?, mean))
    }

    /// Returns the magnitudes, f32 [K].
    fn dequantized(&self) -> Result<Tensor> {
        match self {
            Self::Plain(absmax_K) => Ok(absmax_K.shallow_clone()),
            Self::Double(apart, mean) => Ok(apart.dequantized()?.f_add_(mean)?),
        }
    }
}

impl Nf4Tensor {
    /// Quantizes a floating-point tensor of any shape on its device.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn of(weight: &Tensor, double_quantization: bool) -> Result<Self> {
        let numbers = weight.numel() as i64;
        let blocks = (numbers + BLOCK - 1) / BLOCK;
        let flat_N = weight.f_reshape([-1])?.f_to_kind(Kind::Float)?;
        let device = weight.device();
        let codes = Tensor::f_empty([blocks * BLOCK / 2], (Kind::Uint8, device))?;
        let absmax_K = Tensor::f_empty([blocks], (Kind::Float, device))?;
        let values = Tensor::f_from_slice(&VALUES)?.f_to_device(device)?;
        let midpoints = values
            .f_narrow(0, 0, 15)?
            .f_add(&values.f_narrow(0, 1, 15)?)?
            .f_mul_scalar(0.5)?;
        // Quantizing piece by piece bounds the temporary memory. The nearest of the sixteen values is found by counting
        // the midpoints below a number.
        for first in (0..blocks).step_by(AT_ONCE as usize) {
            let count = AT_ONCE.min(blocks - first);
            let length = (count * BLOCK).min(numbers - first * BLOCK);
            let piece = flat_N.f_narrow(0, first * BLOCK, length)?;
            let piece = piece
                .f_constant_pad_nd([0, count * BLOCK - length])?
                .f_view([count, BLOCK])?;
            let most = piece.f_abs()?.f_amax(1, false)?;
            let scaled = piece
                .f_mul(&reciprocal(&most)?.f_unsqueeze(1)?)?
                .f_clamp(-1.0, 1.0)?;
            let number = scaled.f_bucketize(&midpoints, true, false)?.f_view([-1, 2])?;
            let [upper, lower] = [0, 1].map(|at| number.f_select(1, at));
            let bytes = upper?.f_mul_scalar(16)?.f_add(&lower?)?;
            codes
                .f_narrow(0, first * BLOCK / 2, count * BLOCK / 2)?
                .f_copy_(&bytes)?;
            absmax_K.f_narrow(0, first, count)?.f_copy_(&most)?;
        }
        let magnitudes = if double_quantization {
            Magnitudes::quantized(&absmax_K)?
        } else {
            Magnitudes::Plain(absmax_K)
        };
        let every: Vec<f32> = (0..256)
            .flat_map(|byte: usize| [VALUES[byte / 16], VALUES[byte % 16]])
            .collect();
        let pairs = Tensor::f_from_slice(&every)?
            .f_view([256, 2])?
            .f_to_device(device)?;
        Ok(Self {
            codes,
            magnitudes,
            pairs,
            numbers,
        })
    }

    /// Writes the dequantized numbers to `into`: the value of each code times the absmax of its block,
    /// computed in f32 and rounded to the dtype of `into`.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn write(&self, into: &mut Tensor) -> Result<()> {
        let (flat_N, absmax_K) = (into.f_view([-1])?, self.magnitudes.dequantized()?);
        let blocks = absmax_K.numel() as i64;
        for first in (0..blocks).step_by(AT_ONCE as usize) {
            let count = AT_ONCE.min(blocks - first);
            let length = (count * BLOCK).min(self.numbers - first * BLOCK);
            let bytes = self.codes.f_narrow(0, first * BLOCK / 2, count * BLOCK / 2)?;
            let pairs = Tensor::f_embedding(&self.pairs, &bytes.f_to_kind(Kind::Int)?, -1, false, false)?;
            let most = absmax_K.f_narrow(0, first, count)?.f_unsqueeze(1)?;
            let numbers = pairs.f_view([count, BLOCK])?.f_mul_(&most)?.f_view([-1])?;
            let mut there = flat_N.f_narrow(0, first * BLOCK, length)?;
            there.f_copy_(&numbers.f_narrow(0, 0, length)?)?;
        }
        Ok(())
    }

    /// Returns the codes, two per byte, u8 [K * 32].
    pub fn codes(&self) -> &Tensor {
        &self.codes
    }

    /// Returns the largest magnitude of each block, dequantized, f32 [K].
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn absmax(&self) -> Result<Tensor> {
        self.magnitudes.dequantized()
    }

    /// Returns the size in bytes, without the table of values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_of(&[&self.codes])
            + match &self.magnitudes {
                Magnitudes::Plain(absmax_K) => bytes_of(&[absmax_K]),
                Magnitudes::Double(apart, mean) => apart.bytes() + bytes_of(&[mean]),
            }
    }
}
