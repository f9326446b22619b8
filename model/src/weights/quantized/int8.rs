//! Row-wise int8 quantization: each row is divided by its absmax and rounded to integers from -127 to 127, as
//! LLM.int8 stores weights (arXiv 2208.07339). Activations are not quantized.
//!
//! Legend: O outputs, I inputs.

#![allow(non_snake_case)]

use demask_api::frozen_base::DEQUANTIZED_AT_ONCE;
use tch::{Kind, Tensor};

use super::{bytes_of, reciprocal};
use crate::error::Result;

/// The largest code.
const MOST: f64 = 127.0;

/// A weight in row-wise int8.
#[derive(Debug)]
pub struct Int8Tensor {
    /// Codes, i8 [O, I].
    codes_OI: Tensor,
    /// Largest magnitude of each row, f32 [O].
    absmax_O: Tensor,
}

impl Int8Tensor {
    /// Quantizes a floating-point weight [O, I] on its device.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn of(weight_OI: &Tensor) -> Result<Self> {
        let codes_OI = Tensor::f_empty(&weight_OI.size()[..], (Kind::Int8, weight_OI.device()))?;
        let absmax_O = weight_OI.f_abs()?.f_amax(1, false)?.f_to_kind(Kind::Float)?;
        for (first, count) in pieces(weight_OI) {
            let rows = weight_OI.f_narrow(0, first, count)?.f_to_kind(Kind::Float)?;
            let scale = reciprocal(&absmax_O.f_narrow(0, first, count)?)?.f_mul_scalar(MOST)?;
            let codes = rows
                .f_mul(&scale.f_unsqueeze(1)?)?
                .f_round()?
                .f_clamp(-MOST, MOST)?;
            codes_OI.f_narrow(0, first, count)?.f_copy_(&codes)?;
        }
        Ok(Self { codes_OI, absmax_O })
    }

    /// Writes the dequantized weight [O, I] to `into`: each code times its row's absmax / 127, computed in
    /// f32 and rounded to the dtype of `into`.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn write(&self, into: &mut Tensor) -> Result<()> {
        let scale_O = self.absmax_O.f_mul_scalar(1.0 / MOST)?;
        for (first, count) in pieces(&self.codes_OI) {
            let mut codes = self.codes_OI.f_narrow(0, first, count)?.f_to_kind(Kind::Float)?;
            let rows = codes.f_mul_(&scale_O.f_narrow(0, first, count)?.f_unsqueeze(1)?)?;
            into.f_narrow(0, first, count)?.f_copy_(&rows)?;
        }
        Ok(())
    }

    /// Returns the codes, i8 [O, I].
    pub fn codes(&self) -> &Tensor {
        &self.codes_OI
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_of(&[&self.codes_OI, &self.absmax_O])
    }
}

/// Yields the first row and the number of rows of each piece. Converting piece by piece bounds the temporary
/// f32 memory.
fn pieces(weight_OI: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    let size = weight_OI.size();
    let (rows, columns) = (size[0], size[1].max(1));
    let at_once = (DEQUANTIZED_AT_ONCE as i64 / columns).max(1);
    (0..rows)
        .step_by(at_once as usize)
        .map(move |first| (first, at_once.min(rows - first)))
}
