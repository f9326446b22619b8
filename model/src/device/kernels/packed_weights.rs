//! Packed weights: a second copy of the weights in the memory layout of our matrix products, for a sampler's passes on a
//! CPU.
//!
//! A matrix library copies a weight into such a layout at every product. For a product of many rows this costs little;
//! for the eight to fifty rows of a cached step it takes up to two thirds of the time. The copy is made by the first
//! pass that uses it, and again after the weights have changed.
//!
//! In f32 the copy has an adapter's product merged in; in bf16 the weights that an adapter changes are not packed. The
//! copy of a quantised base is dequantised. It takes at most as many bytes as the whole network in the compute dtype.
//! The first block's projections of all tokens (`csrc/sampling_blocks.cpp`) may take 8 MiB besides.
//!
//! A product with packed weights adds in another order than one in training. A sampler's numbers therefore equal those
//! of training up to rounding, as with its caches. The result for a row does not depend on the number of rows.

#![allow(non_snake_case)]

use std::collections::BTreeMap;
#[cfg(fused)]
use std::sync::Arc;

use demask_api::plan::MOST_PACKED;
use tch::{Kind, Tensor};

use crate::device::kernels::packed_weight::{self, PackedWeight};
#[cfg(fused)]
use crate::device::kernels::sampling_blocks::SamplingBlocks;
use crate::error::Result;

/// The environment variable that switches packing off (`0`) or on (`1`). By default weights of up to [`MOST_PACKED`]
/// bytes are packed.
pub const PACKED: &str = "DEMASK_PACKED_WEIGHTS";

/// The packed weights of a network: whole leaves by their names, and spans of the head's rows.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    version: i64,
    whole: BTreeMap<String, PackedWeight>,
    spans: BTreeMap<(i64, i64), PackedWeight>,
    /// All blocks for one call, if the weights of all of them are packed.
    #[cfg(fused)]
    blocks: Option<Arc<SamplingBlocks>>,
}

impl PackedWeights {
    /// Packs some matrices, [O, I], and spans of the rows of the head, [V, D]. A matrix is made when it is packed, and
    /// dropped then. `version` is the version of the parameters that the matrices are made of. Returns `None` if their
    /// dtype is not supported ([`packed_weight::are_supported`]).
    ///
    /// # Errors
    /// The error of a matrix that could not be made, or any error libtorch reports.
    pub fn new<'a>(
        version: i64,
        matrices: impl Iterator<Item = Result<(&'a str, Tensor)>>,
        head_VD: &Tensor,
        spans: &[(i64, i64)],
    ) -> Result<Option<Self>> {
        let mut packed = Self {
            version,
            whole: BTreeMap::new(),
            spans: BTreeMap::new(),
            #[cfg(fused)]
            blocks: None,
        };
        for matrix in matrices {
            let (name, matrix_OI) = matrix?;
            let Some(weight) = PackedWeight::new(&matrix_OI)? else {
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

    /// Returns the version of the parameters that were packed.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Returns the packed weight of a leaf, with the adapter's product merged in if an adapter changes it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&PackedWeight> {
        self.whole.get(name)
    }

    /// Returns the packed weight of a span of the head's rows, `(start, end)` with an exclusive end.
    #[must_use]
    pub fn span(&self, rows: (i64, i64)) -> Option<&PackedWeight> {
        self.spans.get(&rows)
    }

    /// Returns packed weights that share the same memory, for another thread.
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
            #[cfg(fused)]
            blocks: self.blocks.clone(),
        }
    }

    /// Adds all blocks for one call.
    #[cfg(fused)]
    pub fn set_blocks(&mut self, blocks: SamplingBlocks) {
        self.blocks = Some(Arc::new(blocks));
    }

    /// Returns all blocks for one call, if the weights of all of them are packed.
    #[cfg(fused)]
    pub fn blocks(&self) -> Option<&SamplingBlocks> {
        self.blocks.as_deref()
    }
}

/// Returns whether weights of a dtype and this many bytes are packed.
#[must_use]
pub(crate) fn are_kept(kind: Kind, bytes: u64) -> bool {
    let asked = match std::env::var(PACKED).as_deref().map(str::trim) {
        Ok("0") => false,
        Ok("1") => true,
        _ => bytes <= MOST_PACKED,
    };
    asked && packed_weight::are_supported(kind)
}
