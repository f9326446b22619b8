//! Blockwise 8-bit quantization: each block of 256 numbers is divided by its absmax and rounded to a map of
//! dynamic exponents (arXiv 1511.04561, 2110.02861). NF4's double quantization stores its constants this way,
//! as bitsandbytes does.
//!
//! Legend: N numbers, K blocks.

#![allow(non_snake_case)]

use demask_api::frozen_base::DOUBLE_BLOCK;
use tch::{Device, Kind, Tensor};

use super::{bytes_of, reciprocal};
use crate::error::Result;

/// Numbers per block.
const BLOCK: i64 = DOUBLE_BLOCK as i64;
/// Decades of the map, from 1e-6 to 1.
const EXPONENTS: i32 = 7;

/// Returns the 256 values of the map in ascending order. The decade below 10^-e has 2^(6-e) positive values,
/// which are the midpoints of equal parts of the decade, and as many negative ones. Zero and one are added.
///
/// # Errors
/// Returns libtorch's errors.
pub fn dynamic_map() -> Result<Tensor> {
    let mut values = vec![0.0_f32, 1.0];
    for decade in 0..EXPONENTS {
        let parts = 1_i64 << decade;
        let bounds = Tensor::f_linspace(0.1, 1.0, parts + 1, (Kind::Float, Device::Cpu))?;
        let middles = bounds
            .f_narrow(0, 0, parts)?
            .f_add(&bounds.f_narrow(0, 1, parts)?)?
            .f_mul_scalar(0.5)?;
        let scaled: Vec<f32> = middles
            .f_mul_scalar(10_f64.powi(decade + 1 - EXPONENTS))?
            .try_into()?;
        values.extend(scaled.iter().flat_map(|&value| [value, -value]));
    }
    values.sort_by(f32::total_cmp);
    Ok(Tensor::f_from_slice(&values)?)
}

/// Numbers in blockwise 8-bit quantization.
#[derive(Debug)]
pub struct Blockwise {
    /// Codes, u8 [N].
    codes_N: Tensor,
    /// Largest magnitude of each block, f32 [K].
    absmax_K: Tensor,
    /// Values of the codes, f32 [256].
    map: Tensor,
}

impl Blockwise {
    /// Quantizes f32 numbers [N] on their device.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn of(numbers_N: &Tensor) -> Result<Self> {
        let map = dynamic_map()?.f_to_device(numbers_N.device())?;
        let blocks = by_blocks(numbers_N)?;
        let absmax_K = blocks.f_abs()?.f_amax(1, false)?;
        let scaled = blocks
            .f_mul(&reciprocal(&absmax_K)?.f_unsqueeze(1)?)?
            .f_clamp(-1.0, 1.0)?;
        let midpoints = map
            .f_narrow(0, 0, 255)?
            .f_add(&map.f_narrow(0, 1, 255)?)?
            .f_mul_scalar(0.5)?;
        let codes = scaled.f_bucketize(&midpoints, true, false)?.f_view([-1])?;
        let codes_N = codes
            .f_narrow(0, 0, numbers_N.numel() as i64)?
            .f_to_kind(Kind::Uint8)?;
        Ok(Self {
            codes_N,
            absmax_K,
            map,
        })
    }

    /// Returns the dequantized numbers, f32 [N].
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn dequantized(&self) -> Result<Tensor> {
        let values = self.map.f_index_select(0, &self.codes_N.f_to_kind(Kind::Int)?)?;
        let scaled = by_blocks(&values)?.f_mul_(&self.absmax_K.f_unsqueeze(1)?)?;
        Ok(scaled
            .f_view([-1])?
            .f_narrow(0, 0, self.codes_N.numel() as i64)?
            .f_contiguous()?)
    }

    /// Returns the codes, u8 [N].
    pub fn codes(&self) -> &Tensor {
        &self.codes_N
    }

    /// Returns the size in bytes, without the map.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_of(&[&self.codes_N, &self.absmax_K])
    }
}

/// Reshapes numbers [N] to [K, 256], padded with zeros.
fn by_blocks(numbers_N: &Tensor) -> Result<Tensor> {
    let short = (BLOCK - numbers_N.numel() as i64 % BLOCK) % BLOCK;
    Ok(numbers_N.f_constant_pad_nd([0, short])?.f_view([-1, BLOCK])?)
}
