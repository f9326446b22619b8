//! One packed weight: a matrix in the memory layout of the CPU's matrix products, and products with it. The C++ code is
//! `csrc/packed.cpp`.
//!
//! Legend: T rows, I inputs, O outputs.

#![allow(non_snake_case)]

use tch::{Kind, Tensor};

#[cfg(fused)]
use crate::device::kernels::ffi::{Handle, handle};
use crate::device::kernels::kernel_set::KernelSet;
use crate::error::Result;

/// A packed weight, [O, I].
#[derive(Debug)]
pub struct PackedWeight {
    packed: Tensor,
    ins: i64,
    outs: i64,
    /// The instruction set that multiplies.
    set: KernelSet,
}

impl PackedWeight {
    /// Packs a weight, [O, I], on the CPU. Returns `None` if this is not supported for its dtype
    /// ([`are_supported`]).
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(weight_OI: &Tensor) -> Result<Option<Self>> {
        let (outs, ins) = weight_OI.size2()?;
        let Some(set) = KernelSet::chosen().filter(|_| are_supported(weight_OI.kind())) else {
            return Ok(None);
        };
        let packed = kernels::pack(&weight_OI.f_detach()?, set)?;
        Ok(Some(Self {
            packed,
            ins,
            outs,
            set,
        }))
    }

    /// Computes `x wᵀ + bias`, [T, O], of rows x, [T, I], all of the weight's dtype. The sums are in f32.
    ///
    /// # Errors
    /// Any error libtorch reports, for example if the rows have another width.
    pub fn linear(&self, x_TI: &Tensor, bias_O: Option<&Tensor>) -> Result<Tensor> {
        let mut y_TO = kernels::product(x_TI, self)?;
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
            set: self.set,
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
    set: i64,
}

#[cfg(fused)]
impl PackedHandle {
    /// Returns the handle of a weight. It is valid as long as the weight.
    pub fn of(weight: &PackedWeight) -> Self {
        Self {
            packed: handle(&weight.packed),
            ins: weight.ins,
            outs: weight.outs,
            set: weight.set as i64,
        }
    }
}

/// Returns whether weights of a dtype can be packed: f32 in every build with kernels, bf16 if the processor has
/// instructions for its products.
pub(crate) fn are_supported(kind: Kind) -> bool {
    match kind {
        Kind::Float => KernelSet::chosen().is_some(),
        Kind::BFloat16 => KernelSet::chosen().is_some_and(KernelSet::multiplies_bf16),
        _ => false,
    }
}

#[cfg(fused)]
mod kernels {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use super::PackedWeight;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::device::kernels::kernel_set::KernelSet;
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_pack(weight: Handle, set: i64, packed: *mut Handle) -> c_int;
        fn demask_packed_product(
            x: Handle,
            weight: Handle,
            ins: i64,
            outs: i64,
            set: i64,
            y: *mut Handle,
        ) -> c_int;
    }

    pub(super) fn pack(weight: &Tensor, set: KernelSet) -> Result<Tensor> {
        let mut packed = null_mut();
        // SAFETY: the handle is a live tensor, whose shape, dtype and device the function checks.
        check(unsafe { demask_pack(handle(weight), set as i64, &mut packed) })?;
        Ok(take(packed))
    }

    pub(super) fn product(x: &Tensor, weight: &PackedWeight) -> Result<Tensor> {
        let (packed, ins, outs) = (handle(&weight.packed), weight.ins, weight.outs);
        let set = weight.set as i64;
        let mut y = null_mut();
        // SAFETY: as above; the packed numbers are those of a weight of this shape.
        check(unsafe { demask_packed_product(handle(x), packed, ins, outs, set, &mut y) })?;
        Ok(take(y))
    }
}

#[cfg(not(fused))]
mod kernels {
    use tch::Tensor;

    use crate::device::kernels::kernel_set::KernelSet;
    use crate::error::{ModelError, Result};

    pub(super) fn pack(_: &Tensor, _: KernelSet) -> Result<Tensor> {
        Err(ModelError::Refused("this build cannot pack weights".into()))
    }

    pub(super) fn product(_: &Tensor, _: &super::PackedWeight) -> Result<Tensor> {
        Err(ModelError::Refused("this build cannot pack weights".into()))
    }
}
