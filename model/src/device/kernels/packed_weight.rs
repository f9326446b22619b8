//! One packed weight: a matrix in the memory layout of the CPU's matrix library, and products with it. The C++ code is
//! `csrc/packed.cpp`.
//!
//! Legend: T rows, I inputs, O outputs.

#![allow(non_snake_case)]

use tch::Tensor;

#[cfg(fused)]
use crate::device::kernels::ffi::{Handle, handle};
use crate::error::Result;

/// A packed weight, [O, I].
#[derive(Debug)]
pub struct PackedWeight {
    packed: Tensor,
    ins: i64,
    outs: i64,
    /// The number of pieces that the outputs are cut into, for as many threads.
    pieces: i64,
}

impl PackedWeight {
    /// Packs an f32 weight, [O, I], on the CPU. Returns `None` if the library does not support packing.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(weight_OI: &Tensor) -> Result<Option<Self>> {
        let (outs, ins) = weight_OI.size2()?;
        let packed = library::pack(&weight_OI.f_detach()?)?;
        Ok(packed.map(|(packed, pieces)| Self {
            packed,
            ins,
            outs,
            pieces,
        }))
    }

    /// Computes `x wᵀ + bias`, [T, O], of rows x, [T, I].
    ///
    /// # Errors
    /// Any error libtorch reports, for example if the rows have another width.
    pub fn linear(&self, x_TI: &Tensor, bias_O: Option<&Tensor>) -> Result<Tensor> {
        let mut y_TO = library::product(x_TI, self)?;
        Ok(match bias_O {
            Some(bias) => y_TO.f_add_(bias)?,
            None => y_TO,
        })
    }

    /// Returns the same packed weight for another thread.
    pub(crate) fn shared(&self) -> Self {
        Self {
            packed: self.packed.shallow_clone(),
            ins: self.ins,
            outs: self.outs,
            pieces: self.pieces,
        }
    }
}

/// A packed weight as the C++ code takes it.
#[cfg(fused)]
#[repr(C)]
pub(crate) struct PackedHandle {
    packed: Handle,
    ins: i64,
    outs: i64,
    pieces: i64,
}

#[cfg(fused)]
impl PackedHandle {
    /// Returns the handle of a weight. It is valid as long as the weight.
    pub fn of(weight: &PackedWeight) -> Self {
        Self {
            packed: handle(&weight.packed),
            ins: weight.ins,
            outs: weight.outs,
            pieces: weight.pieces,
        }
    }
}

/// Returns whether the matrix library packs weights.
pub(crate) fn are_supported() -> bool {
    library::packs()
}

#[cfg(fused)]
mod library {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use super::PackedWeight;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_packs() -> bool;
        fn demask_pack(weight: Handle, packed: *mut Handle, pieces: *mut i64) -> c_int;
        fn demask_packed_product(
            x: Handle,
            weight: Handle,
            ins: i64,
            outs: i64,
            pieces: i64,
            y: *mut Handle,
        ) -> c_int;
    }

    pub(super) fn packs() -> bool {
        // SAFETY: the function takes nothing and looks up symbols.
        unsafe { demask_packs() }
    }

    pub(super) fn pack(weight: &Tensor) -> Result<Option<(Tensor, i64)>> {
        if !packs() {
            return Ok(None);
        }
        let (mut packed, mut pieces) = (null_mut(), 0);
        // SAFETY: the handle is a live tensor, whose shape, dtype and device the function checks.
        check(unsafe { demask_pack(handle(weight), &mut packed, &mut pieces) })?;
        Ok(Some((take(packed), pieces)))
    }

    pub(super) fn product(x: &Tensor, weight: &PackedWeight) -> Result<Tensor> {
        let (packed, ins, outs) = (handle(&weight.packed), weight.ins, weight.outs);
        let mut y = null_mut();
        // SAFETY: as above; the packed bytes are those of a weight of this shape in so many pieces.
        check(unsafe { demask_packed_product(handle(x), packed, ins, outs, weight.pieces, &mut y) })?;
        Ok(take(y))
    }
}

#[cfg(not(fused))]
mod library {
    use tch::Tensor;

    use crate::error::{ModelError, Result};

    pub(super) fn packs() -> bool {
        false
    }

    pub(super) fn pack(_: &Tensor) -> Result<Option<(Tensor, i64)>> {
        Ok(None)
    }

    pub(super) fn product(_: &Tensor, _: &super::PackedWeight) -> Result<Tensor> {
        Err(ModelError::Refused("this build packs no weights".into()))
    }
}
