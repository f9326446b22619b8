//! Weights kept a second time, in the order in which the matrix library computes, for the passes of a sampler on a CPU.
//!
//! The library copies a weight into that order at every product. Of many rows that is little; of the eight to fifty of a cached
//! step it is up to two thirds of the product. Packed weights are made when a pass first wants them, and anew when the weights
//! have changed since. A product with them adds in another order than training's, so that a sampler's numbers are those of
//! training up to rounding, as they are with its caches; and a row of it does not depend on how many rows there are.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::Result;

/// Says `0`, `1`, or nothing: as large as [`MOST`] allows.
pub const PACKED: &str = "DEMASK_PACKED_WEIGHTS";
/// Bytes of weights that are packed where nobody asks for more.
const MOST: u64 = 1 << 30;

/// A weight [O, I], packed.
#[derive(Debug)]
pub struct PackedWeight {
    packed: Tensor,
    ins: i64,
    outs: i64,
}

impl PackedWeight {
    /// Packs a weight [O, I] of f32 on the CPU; none where the library does not offer it.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(weight_OI: &Tensor) -> Result<Option<Self>> {
        let (outs, ins) = weight_OI.size2()?;
        let packed = library::pack(&weight_OI.f_detach()?)?;
        Ok(packed.map(|packed| Self { packed, ins, outs }))
    }

    /// `x wᵀ + bias` of rows x [T, I]: [T, O].
    ///
    /// # Errors
    /// Another width, or any error libtorch reports.
    pub fn linear(&self, x_TI: &Tensor, bias_O: Option<&Tensor>) -> Result<Tensor> {
        let mut y_TO = library::product(x_TI, &self.packed, self.ins, self.outs)?;
        Ok(match bias_O {
            Some(bias) => y_TO.f_add_(bias)?,
            None => y_TO,
        })
    }

    fn shared(&self) -> Self {
        Self {
            packed: self.packed.shallow_clone(),
            ins: self.ins,
            outs: self.outs,
        }
    }
}

/// Packed weights of a network, by the name of the leaf and the rows of it: all, or a span of the head's.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    version: i64,
    whole: BTreeMap<String, PackedWeight>,
    spans: BTreeMap<(i64, i64), PackedWeight>,
}

impl PackedWeights {
    /// All matrices among some leaves at a version of theirs, and spans of the rows of `head` [V, D] besides; none where the
    /// library does not offer it.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new<'a>(
        version: i64,
        leaves: impl Iterator<Item = (&'a str, &'a Tensor)>,
        head_VD: &Tensor,
        spans: &[(i64, i64)],
    ) -> Result<Option<Self>> {
        let mut packed = Self {
            version,
            whole: BTreeMap::new(),
            spans: BTreeMap::new(),
        };
        for (name, leaf) in leaves.filter(|(_, leaf)| leaf.dim() == 2) {
            let Some(weight) = PackedWeight::new(leaf)? else {
                return Ok(None);
            };
            packed.whole.insert(name.to_owned(), weight);
        }
        for &(start, end) in spans {
            let rows = head_VD.f_narrow(0, start, end - start)?;
            if let Some(weight) = PackedWeight::new(&rows)? {
                packed.spans.insert((start, end), weight);
            }
        }
        Ok(Some(packed))
    }

    /// The version of the leaves that were packed.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// A leaf's.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PackedWeight> {
        self.whole.get(name)
    }

    /// That of some rows of the head, from the first to before the last.
    #[must_use]
    pub fn span(&self, rows: (i64, i64)) -> Option<&PackedWeight> {
        self.spans.get(&rows)
    }

    /// The packed weights, for another thread.
    #[must_use]
    pub fn shared(&self) -> Self {
        let whole = self.whole.iter();
        let spans = self.spans.iter();
        Self {
            version: self.version,
            whole: whole
                .map(|(name, weight)| (name.clone(), weight.shared()))
                .collect(),
            spans: spans.map(|(&rows, weight)| (rows, weight.shared())).collect(),
        }
    }
}

/// Whether weights of so many bytes are kept twice.
#[must_use]
pub(crate) fn are_kept(bytes: u64) -> bool {
    let asked = match std::env::var(PACKED).as_deref().map(str::trim) {
        Ok("0") => false,
        Ok("1") => true,
        _ => bytes <= MOST,
    };
    asked && library::packs()
}

#[cfg(fused)]
mod library {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_packs() -> bool;
        fn demask_pack(weight: Handle, packed: *mut Handle) -> c_int;
        fn demask_packed_product(x: Handle, weight: Handle, ins: i64, outs: i64, y: *mut Handle) -> c_int;
    }

    pub(super) fn packs() -> bool {
        // SAFETY: takes nothing, and looks names up.
        unsafe { demask_packs() }
    }

    pub(super) fn pack(weight: &Tensor) -> Result<Option<Tensor>> {
        if !packs() {
            return Ok(None);
        }
        let mut packed = null_mut();
        // SAFETY: the handle is a live tensor; its shape, dtype and device are checked.
        check(unsafe { demask_pack(handle(weight), &mut packed) })?;
        Ok(Some(take(packed)))
    }

    pub(super) fn product(x: &Tensor, weight: &Tensor, ins: i64, outs: i64) -> Result<Tensor> {
        let mut y = null_mut();
        // SAFETY: as above; the packed bytes are those of a weight of this shape.
        check(unsafe { demask_packed_product(handle(x), handle(weight), ins, outs, &mut y) })?;
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

    pub(super) fn pack(_: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    pub(super) fn product(_: &Tensor, _: &Tensor, _: i64, _: i64) -> Result<Tensor> {
        Err(ModelError::Refused("this build packs no weights".into()))
    }
}
